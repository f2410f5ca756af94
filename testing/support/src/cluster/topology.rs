//! A node's view of the cluster: `CLUSTER NODES`.

/// A node in the view of another one, or of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) port: u16,
    pub(super) flags: Vec<String>,
    /// The id of its master, if it is a replica.
    pub(super) master: Option<String>,
    /// The first and the last slot of each range that it owns.
    pub(super) slots: Vec<(u16, u16)>,
}

impl Member {
    /// Parses `CLUSTER NODES`, whose lines are
    /// `ID IP:PORT@BUSPORT[,HOST] FLAGS MASTER PING PONG EPOCH LINK [SLOT|FIRST-LAST|[MIGRATION]]…`.
    pub(super) fn all(nodes: &str) -> Vec<Self> {
        let mut members: Vec<_> = nodes
            .lines()
            .map(|line| {
                Self::parse(line).unwrap_or_else(|| panic!("not of CLUSTER NODES: {line:?}"))
            })
            .collect();
        members.sort_unstable_by_key(|member| member.port);
        members
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.split(' ').collect();
        let [id, addr, flags, master, _, _, _, _, slots @ ..] = fields.as_slice() else {
            return None;
        };
        let port = addr.split('@').next()?.rsplit(':').next()?;
        Some(Self {
            id: (*id).into(),
            port: port.parse().ok()?,
            flags: flags.split(',').map(Into::into).collect(),
            master: (*master != "-").then(|| (*master).into()),
            slots: slots
                .iter()
                .filter(|slot| !slot.starts_with('['))
                .map(|slot| range(slot))
                .collect::<Option<_>>()?,
        })
    }

    pub(super) fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|has| has == flag)
    }

    pub(super) fn owns(&self, slot: u16) -> bool {
        self.slots
            .iter()
            .any(|&(first, last)| (first..=last).contains(&slot))
    }

    /// Returns whether it is a master that owns slots.
    pub(super) fn serves(&self) -> bool {
        self.is("master") && !self.slots.is_empty()
    }

    /// Returns whether it has been met and is not suspected of a failure.
    pub(super) fn is_well(&self) -> bool {
        !["fail?", "fail", "handshake", "noaddr"]
            .iter()
            .any(|flag| self.is(flag))
    }

    /// Returns the part that all nodes must agree on.
    pub(super) fn essence(&self) -> (&str, bool, Option<&str>, &[(u16, u16)]) {
        let master = self.master.as_deref();
        (&self.id, self.is("master"), master, &self.slots)
    }
}

fn range(slots: &str) -> Option<(u16, u16)> {
    let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_is_parsed() {
        let nodes = "b 127.0.0.1:7002@17002 myself,master - 0 0 2 connected 1 5-9 [93-<-a] [77->-a]\n\
                     a 127.0.0.1:7001@17001,host slave,fail? b 0 0 1 disconnected\n";
        let members = Member::all(nodes);
        assert_eq!(members[0].master.as_deref(), Some("b"));
        assert!(!members[0].is_well() && !members[0].serves());
        assert_eq!(members[1].port, 7002);
        assert_eq!(members[1].slots, [(1, 1), (5, 9)]);
        assert!(members[1].owns(7) && !members[1].owns(93) && members[1].serves());
    }
}
