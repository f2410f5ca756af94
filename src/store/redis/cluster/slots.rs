//! The slot of a key, and the node that owns the slot. Without I/O.

use std::collections::HashMap;

use redis::Value;

const SLOTS: u16 = 16_384;

/// A host and a port.
pub(crate) type Address = (String, u16);

/// Returns the slot of a key, as the cluster's specification says.
pub(crate) fn slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key).unwrap_or(key)) % SLOTS
}

/// Returns the text between the first opening brace and the closing one after it, if there is any.
fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = &key[open + 1..];
    let close = rest.iter().position(|byte| *byte == b'}')?;
    (close > 0).then(|| &rest[..close])
}

/// The checksums of single bytes.
const BYTES: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 0x8000 != 0;
            crc = (crc << 1) ^ if carry { 0x1021 } else { 0 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        let [high, _] = crc.to_be_bytes();
        (crc << 8) ^ BYTES[usize::from(high ^ byte)]
    })
}

/// The reply to `CLUSTER SLOTS`, without the replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owners {
    /// The first and the last slot, and the index of the owner among the masters.
    ranges: Vec<(u16, u16, usize)>,
    masters: Vec<Address>,
}

impl Owners {
    /// Parses a reply of the node at `sender`. Returns `None` if the reply has another form, or no node owns
    /// anything, as in the reply of a node that is not in a cluster. A master without a host is at `sender`;
    /// one that is configured to have a name, and has none, is at its IP address.
    pub(crate) fn parse(reply: &Value, sender: &str) -> Option<Self> {
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
                None | Some("") => sender.to_owned(),
                // guard: C13
                Some("?") => ip(more)?,
                Some(host) => host.to_owned(),
            };
            let owner = owners.index((host, number(port)?));
            owners.ranges.push((number(first)?, number(last)?, owner));
        }
        owners.ranges.sort_unstable();
        let disjoint = owners.ranges.is_sorted_by(|one, next| one.1 < next.0);
        // Every owner owns something: `tags` relies on it.
        let in_order = |&(first, last, _): &_| first <= last && last < SLOTS;
        let valid = disjoint && owners.ranges.iter().all(in_order) && !owners.ranges.is_empty();
        valid.then_some(owners)
    }

    fn index(&mut self, address: Address) -> usize {
        let known = self.masters.iter().position(|master| *master == address);
        known.unwrap_or_else(|| {
            self.masters.push(address);
            self.masters.len() - 1
        })
    }

    /// Returns the masters that own slots.
    pub(crate) fn masters(&self) -> &[Address] {
        &self.masters
    }

    /// Returns the index of the master that owns a slot.
    pub(crate) fn of(&self, slot: u16) -> Option<usize> {
        let after = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, owner) = self.ranges[..after].last()?;
        (slot <= *last).then_some(*owner)
    }

    /// Returns the number of slots that have an owner.
    pub(crate) fn len(&self) -> u16 {
        let owned = |(first, last, _): &(u16, u16, usize)| last - first + 1;
        self.ranges.iter().map(owned).sum()
    }

    /// Returns whether every slot has an owner.
    pub(crate) fn is_whole(&self) -> bool {
        self.len() == SLOTS
    }

    /// Returns a hash tag whose slot this master owns: a number that is at least `from`.
    pub(crate) fn tag(&self, owner: usize, from: u32) -> Option<String> {
        let mut tags = (from..).map(|number| number.to_string());
        tags.find(|tag| self.of(slot(tag.as_bytes())) == Some(owner))
    }

    /// Returns a hash tag for each master, a number whose slot it owns. About as many numbers are tried as
    /// there are slots for each that the smallest master owns.
    pub(crate) fn tags(&self) -> Vec<String> {
        let mut tags = vec![None; self.masters.len()];
        let mut missing = tags.len();
        for number in 0_u32.. {
            if missing == 0 {
                break;
            }
            let tag = number.to_string();
            if let Some(owner) = self.of(slot(tag.as_bytes()))
                && tags[owner].is_none()
            {
                tags[owner] = Some(tag);
                missing -= 1;
            }
        }
        tags.into_iter().flatten().collect()
    }
}

/// Returns the IP address of a node, which Redis 7.0 and later send after the node's port and id.
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
    fn slots_are_those_of_the_specification() {
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
    fn each_slot_has_the_owner_that_the_reply_names() {
        let reply = Value::Array(vec![
            range(8_192, 16_383, node(text("b"), 2)),
            range(0, 99, node(Value::Nil, 1)),
            range(101, 8_191, node(text(""), 1)),
        ]);
        let owners = Owners::parse(&reply, "sender").unwrap();
        let address = |slot| owners.of(slot).map(|owner| owners.masters()[owner].clone());
        let (sender, b) = (("sender".to_owned(), 1), ("b".to_owned(), 2));
        for slot in [0, 99, 101, 8_191] {
            assert_eq!(address(slot).as_ref(), Some(&sender), "{slot}");
        }
        assert_eq!(address(16_383), Some(b));
        assert_eq!(address(100), None);
        assert!(!owners.is_whole());
        for (owner, tag) in owners.tags().iter().enumerate() {
            assert_eq!(owners.of(slot(tag.as_bytes())), Some(owner));
        }
    }

    #[test]
    fn a_node_without_its_configured_name_is_at_its_ip_address() {
        let parse = |master| {
            let reply = Value::Array(vec![range(0, 16_383, Value::Array(master))]);
            Owners::parse(&reply, "sender").map(|owners| owners.masters().to_vec())
        };
        let nameless = vec![text("?"), Value::Int(1), text("id")];
        assert_eq!(parse(nameless.clone()), None);
        let endpoints = Value::Map(vec![(text("ip"), text("::1"))]);
        let master = [nameless, vec![endpoints]].concat();
        assert_eq!(parse(master), Some(vec![("::1".to_owned(), 1)]));
    }

    #[test]
    fn replies_with_invalid_slots_are_rejected() {
        let range = |first, last| range(first, last, node(text("a"), 1));
        let parse = |ranges: Vec<Value>| Owners::parse(&Value::Array(ranges), "sender");
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
    fn the_reply_of_a_node_outside_a_cluster_is_rejected() {
        assert_eq!(Owners::parse(&Value::Array(Vec::new()), "sender"), None);
        assert_eq!(Owners::parse(&Value::Nil, "sender"), None);
    }
}
