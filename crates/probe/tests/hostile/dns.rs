//! A DNS server that says what a test wants, and something else the next time.

use std::collections::HashMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::{Arc, Mutex};

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const NO_SUCH_NAME: u8 = 3;

/// A name and its answers: one list of addresses for each time it is asked for, the last for ever after.
pub struct Record {
    pub name: &'static str,
    /// Names that stand between it and its addresses.
    pub through: &'static [&'static str],
    pub answers: Vec<Vec<IpAddr>>,
}

/// How often which name was asked for, by type of record.
#[derive(Clone, Default)]
pub struct Asked(Arc<Mutex<HashMap<(String, u16), usize>>>);

impl Asked {
    /// How often the IPv4 addresses of a name were asked for.
    pub fn a(&self, name: &str) -> usize {
        let counts = self.0.lock().unwrap();
        counts.get(&(name.to_owned(), A)).copied().unwrap_or(0)
    }

    fn next(&self, name: &str, kind: u16) -> usize {
        let mut counts = self.0.lock().unwrap();
        let count = counts.entry((name.to_owned(), kind)).or_default();
        *count += 1;
        *count - 1
    }
}

/// Serves on 127.0.0.1:53. A name without answers is asked for in vain: nothing comes back.
pub fn serve(names: Vec<Record>) -> Asked {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    let asked = Asked::default();
    let counts = asked.clone();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut query).unwrap();
            if let Some(reply) = reply(&query[..length], &names, &counts) {
                socket.send_to(&reply, from).unwrap();
            }
        }
    });
    asked
}

fn reply(query: &[u8], names: &[Record], counts: &Asked) -> Option<Vec<u8>> {
    let (name, end) = read_name(query);
    let kind = u16::from_be_bytes([query[end], query[end + 1]]);
    let question = &query[12..end + 4];
    let Some(known) = names.iter().find(|known| known.name == name) else {
        return Some(message(query, NO_SUCH_NAME, question, &[]));
    };
    let turn = counts.next(&name, kind);
    let addresses = known.answers.get(turn).or(known.answers.last())?;
    let mut records = Vec::new();
    let mut owner = known.name;
    for target in known.through {
        records.push(record(owner, CNAME, &write_name(target)));
        owner = target;
    }
    for address in addresses {
        match address {
            IpAddr::V4(address) if kind == A => records.push(record(owner, A, &address.octets())),
            IpAddr::V6(address) if kind == AAAA => {
                records.push(record(owner, AAAA, &address.octets()));
            }
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
    }
    Some(message(query, 0, question, &records))
}

fn message(query: &[u8], code: u8, question: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let mut message = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1];
    message.extend(u16::try_from(records.len()).unwrap().to_be_bytes());
    message.extend([0; 4]);
    message.extend(question);
    message.extend(records.concat());
    message
}

/// Lives for no time at all, so that nobody keeps it.
fn record(owner: &str, kind: u16, data: &[u8]) -> Vec<u8> {
    let mut record = write_name(owner);
    record.extend(kind.to_be_bytes());
    record.extend([0, 1, 0, 0, 0, 0]);
    record.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    record.extend(data);
    record
}

/// The name in the question, and where it ends.
fn read_name(query: &[u8]) -> (String, usize) {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    (labels.join("."), at + 1)
}

fn write_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
