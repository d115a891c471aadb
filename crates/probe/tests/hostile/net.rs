//! A network of its own in which every address leads to the sinkhole.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::rows::REDIRECTS;
use crate::support::{eventually, read_request};

/// Ports that the sinkhole listens on.
const PORTS: [u16; 7] = [22, 80, 443, 2379, 8080, 9090, 10250];

/// Makes every address lead here, and names be asked of our own server. Only inside the namespaces.
pub fn set_up(folder: &std::path::Path) {
    for line in [
        "link set lo up",
        "route add local 0.0.0.0/0 dev lo",
        "-6 route add local ::/0 dev lo",
        "-6 addr add fe80::1/64 dev lo nodad",
        "-6 addr add 2606:2800::2/128 dev lo nodad",
    ] {
        run("ip", line.split(' '));
    }
    for (file, text) in [
        (
            "resolv.conf",
            "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        ),
        (
            "hosts",
            "127.0.0.1 localhost\n::1 ip6-localhost\n169.254.169.254 metadata.google.internal\n",
        ),
        ("nsswitch.conf", "hosts: files dns\n"),
    ] {
        let ours = folder.join(file);
        std::fs::write(&ours, text).unwrap();
        let theirs = format!("/etc/{file}");
        run("mount", ["--bind", ours.to_str().unwrap(), &theirs]);
    }
}

fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a str>) {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let output = Command::new(program).args(&arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

/// How many connections anybody in this network has begun so far, as the kernel counts them.
pub fn begun() -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/snmp").unwrap();
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
    let column = names.split(' ').position(|name| name == "ActiveOpens");
    let value = values.split(' ').nth(column.unwrap()).unwrap();
    value.parse().unwrap()
}

/// A connection that arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    pub from: SocketAddr,
    pub to: SocketAddr,
}

/// Takes connections to every address on its ports.
#[derive(Clone, Default)]
pub struct Sinkhole(Arc<Mutex<Vec<Arrival>>>);

impl Sinkhole {
    pub fn open() -> Self {
        let sinkhole = Self::default();
        for port in PORTS {
            // Takes IPv4 too: a fresh network namespace has net.ipv6.bindv6only=0.
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
            let arrivals = sinkhole.0.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let stream = stream.unwrap();
                    let (from, to) = (
                        canonical(stream.peer_addr().unwrap()),
                        canonical(stream.local_addr().unwrap()),
                    );
                    arrivals.lock().unwrap().push(Arrival { from, to });
                    std::thread::spawn(move || answer(stream));
                }
            });
        }
        sinkhole
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn since(&self, mark: usize) -> Vec<Arrival> {
        self.0.lock().unwrap()[mark..].to_vec()
    }

    /// A plain client reaches the address. Listeners take connections in their order, so whatever came to the same
    /// port before has been counted when this returns.
    pub fn control(&self, means: SocketAddr) -> Arrival {
        let mark = self.count();
        let stream = TcpStream::connect_timeout(&scoped(means), Duration::from_secs(5))
            .unwrap_or_else(|error| panic!("the control does not reach {means}: {error}"));
        let from = canonical(stream.local_addr().unwrap());
        let arrived = || {
            let arrivals = self.since(mark);
            arrivals
                .into_iter()
                .find(|arrival| arrival.from.port() == from.port())
        };
        eventually("the control arrives", || arrived().is_some());
        arrived().unwrap()
    }
}

/// Link-local addresses need the interface: the loopback, which is the first of its network.
fn scoped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(six) if six.ip().is_unicast_link_local() => {
            SocketAddrV6::new(*six.ip(), six.port(), 0, 1).into()
        }
        other => other,
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

fn answer(mut stream: TcpStream) {
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let Some(request) = read_request(&mut stream) else {
        return;
    };
    let redirect = request
        .strip_prefix("GET /health/redirect/")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|number| REDIRECTS.get(number.parse::<usize>().ok()?));
    let answer = match redirect {
        Some((location, _)) => {
            format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
        }
        None => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsink".to_owned(),
    };
    let _ = stream.write_all(answer.as_bytes());
}
