//! Which slot of a cluster a key lies in, and which node owns the slot. Pure.

use std::collections::HashMap;

use redis::Value;

const SLOTS: u16 = 16_384;

/// Host and port.
pub(super) type Address = (String, u16);

/// The slot of a key, as the cluster's specification has it.
pub(super) fn slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key).unwrap_or(key)) % SLOTS
}

/// What stands between the first opening brace and the closing one after it, if anything does.
fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = &key[open + 1..];
    let close = rest.iter().position(|byte| *byte == b'}')?;
    (close > 0).then(|| &rest[..close])
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    let shift = |crc: u16| {
        if crc & 0x8000 == 0 {
            crc << 1
        } else {
            (crc << 1) ^ 0x1021
        }
    };
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| shift(crc))
    })
}

/// What `CLUSTER SLOTS` tells, without the replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owners {
    /// First and last slot, and the owner's index among the masters.
    ranges: Vec<(u16, u16, usize)>,
    masters: Vec<Address>,
}

impl Owners {
    /// `None` if it is no such reply, or says that nobody owns anything, as a node that is in no cluster
    /// does. A node without a host is at the one that was asked, and one that should have a name and
    /// has none is at its IP address.
    pub(super) fn parse(reply: &Value, asked: &str) -> Option<Self> {
        let mut owners = Self {
            ranges: Vec::new(),
            masters: Vec::new(),
        };
        for range in array(reply)? {
            let [first, last, master, ..] = array(range)? else {
                return None;
            };
            let [host, port, more @ ..] = array(master)? else {
                return None;
            };
            let host: Option<String> = redis::from_redis_value(host.clone()).ok()?;
            let host = match host.as_deref() {
                None | Some("") => asked.to_owned(),
                Some("?") => ip(more)?,
                Some(host) => host.to_owned(),
            };
            let owner = owners.index((host, number(port)?));
            owners.ranges.push((number(first)?, number(last)?, owner));
        }
        owners.ranges.sort_unstable();
        let apart = owners.ranges.is_sorted_by(|one, next| one.1 < next.0);
        // Every owner owns something: `tags` looks for it.
        let real = |&(first, last, _): &_| first <= last && last < SLOTS;
        let sound = apart && owners.ranges.iter().all(real) && !owners.ranges.is_empty();
        sound.then_some(owners)
    }

    fn index(&mut self, address: Address) -> usize {
        let known = self.masters.iter().position(|master| *master == address);
        known.unwrap_or_else(|| {
            self.masters.push(address);
            self.masters.len() - 1
        })
    }

    /// The masters that own slots.
    pub(super) fn masters(&self) -> &[Address] {
        &self.masters
    }

    /// The index of the master that owns a slot.
    pub(super) fn of(&self, slot: u16) -> Option<usize> {
        let after = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, owner) = self.ranges[..after].last()?;
        (slot <= *last).then_some(*owner)
    }

    /// How many slots have an owner.
    pub(super) fn len(&self) -> u16 {
        let owned = |(first, last, _): &(u16, u16, usize)| last - first + 1;
        self.ranges.iter().map(owned).sum()
    }

    /// Whether every slot has one.
    pub(super) fn is_whole(&self) -> bool {
        self.len() == SLOTS
    }

    /// Something that, in braces, makes a key one of this master's: a number, and not below `from`.
    pub(super) fn tag(&self, owner: usize, from: u32) -> Option<String> {
        let mut tags = (from..).map(|number| number.to_string());
        tags.find(|tag| self.of(slot(tag.as_bytes())) == Some(owner))
    }

    /// For each master something that, in braces, makes a key one of its own: a number, of which
    /// about as many are tried as there are slots for each that it owns.
    pub(super) fn tags(&self) -> Vec<String> {
        let mut tags = vec![None; self.masters.len()];
        let mut lacking = tags.len();
        for number in 0_u32.. {
            if lacking == 0 {
                break;
            }
            let tag = number.to_string();
            if let Some(owner) = self.of(slot(tag.as_bytes()))
                && tags[owner].is_none()
            {
                tags[owner] = Some(tag);
                lacking -= 1;
            }
        }
        tags.into_iter().flatten().collect()
    }
}

/// What follows a node's port is its id, and from Redis 7.0 on its other endpoints.
fn ip(more: &[Value]) -> Option<String> {
    let endpoints: HashMap<String, String> = redis::from_redis_value(more.get(1)?.clone()).ok()?;
    endpoints.get("ip").cloned()
}

fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_that_of_the_specification() {
        // The check value of CRC-16/XMODEM; the other slots are what `CLUSTER KEYSLOT` says.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, expected) in [
            ("", 0),
            ("a", 15_495),
            ("foo", 12_182),
            ("{foo}.bar", 12_182),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
        // No tag: nothing between the braces, or no closing one.
        for (key, tag) in [
            ("x{}{a}", None),
            ("x{a", None),
            ("x{{a}}", Some("{a")),
            ("x{a}{b}", Some("a")),
        ] {
            assert_eq!(hash_tag(key.as_bytes()), tag.map(str::as_bytes), "{key}");
        }
    }

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), text("id")])
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, master: Value) -> Value {
        let replica = node(text("replica"), 1);
        Value::Array(vec![Value::Int(first), Value::Int(last), master, replica])
    }

    #[test]
    fn every_slot_has_the_owner_that_the_reply_names() {
        let reply = Value::Array(vec![
            range(8_192, 16_383, node(text("b"), 2)),
            range(0, 99, node(Value::Nil, 1)),
            range(101, 8_191, node(text(""), 1)),
        ]);
        let owners = Owners::parse(&reply, "asked").unwrap();
        let address = |slot| owners.of(slot).map(|owner| owners.masters()[owner].clone());
        let (asked, b) = (("asked".to_owned(), 1), ("b".to_owned(), 2));
        for slot in [0, 99, 101, 8_191] {
            assert_eq!(address(slot).as_ref(), Some(&asked), "{slot}");
        }
        assert_eq!(address(16_383), Some(b));
        assert_eq!(address(100), None);
        assert!(!owners.is_whole());
        for (owner, tag) in owners.tags().iter().enumerate() {
            assert_eq!(owners.of(slot(tag.as_bytes())), Some(owner));
        }
    }

    #[test]
    fn a_node_without_the_name_that_it_should_have_is_at_its_ip_address() {
        let parse = |master| {
            let reply = Value::Array(vec![range(0, 16_383, Value::Array(master))]);
            Owners::parse(&reply, "asked").map(|owners| owners.masters().to_vec())
        };
        let nameless = vec![text("?"), Value::Int(1), text("id")];
        assert_eq!(parse(nameless.clone()), None);
        let endpoints = Value::Map(vec![(text("ip"), text("::1"))]);
        let master = [nameless, vec![endpoints]].concat();
        assert_eq!(parse(master), Some(vec![("::1".to_owned(), 1)]));
    }

    #[test]
    fn slots_that_there_are_not_are_no_reply() {
        let range = |first, last| range(first, last, node(text("a"), 1));
        let parse = |ranges: Vec<Value>| Owners::parse(&Value::Array(ranges), "asked");
        assert!(parse(vec![range(0, 9), range(10, 16_383)]).is_some());
        for ranges in [
            vec![range(9, 8)],
            vec![range(0, 16_384)],
            vec![range(20_000, 20_001)],
            vec![range(0, 9), range(9, 20)],
        ] {
            assert_eq!(parse(ranges), None);
        }
    }

    #[test]
    fn a_node_that_is_in_no_cluster_tells_nothing() {
        assert_eq!(Owners::parse(&Value::Array(Vec::new()), "asked"), None);
        assert_eq!(Owners::parse(&Value::Nil, "asked"), None);
    }
}
