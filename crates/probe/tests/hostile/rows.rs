//! What an attacker may write into a policy, a DNS zone or a redirect, and where it leads.

use crate::dns::Record;

/// The host that policies mean.
pub const GOOD: &str = "93.184.215.14";
pub const GOOD_SIX: &str = "2606:2800:21f:cb07::1";
/// A host of somebody else.
pub const EVIL: &str = "93.184.215.66";

/// The allow-list of an honest policy.
pub const HONEST: [&str; 2] = [
    "https://status.example.com/health",
    "http://www.example.com/health",
];

/// Addresses of the machine or its cloud: opened neither for pods nor for Prometheus by `0.0.0.0/0` and `::/0`.
pub const OWN: [&str; 36] = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254", // AWS, Azure, Google, OpenStack, Oracle, DigitalOcean, Hetzner, IBM
    "169.254.170.2",   // tasks of ECS
    "169.254.170.23",  // identities of pods in EKS
    "169.254.169.253", // DNS of AWS
    "169.254.169.250", // Rancher
    "169.254.42.42",   // Scaleway
    "169.254.0.23",    // Tencent
    "169.254.20.10",   // DNS on the node
    "168.63.129.16",   // Azure
    "100.100.100.200", // Alibaba
    "192.0.0.192",     // Oracle Classic
    "::1",
    "::",
    "fe80::1",
    "fec0::1",
    "fd00:ec2::254",      // AWS
    "fd00:ec2::23",       // identities of pods in EKS
    "fd20:ce::254",       // Google
    "fd00:c1::a9fe:a9fe", // Oracle
    "fd00:42::42",        // Scaleway
    "::7f00:1",           // compatible
    "::a9fe:a9fe",
    "::ffff:127.0.0.1", // mapped
    "::ffff:169.254.169.254",
    "64:ff9b::127.0.0.1", // NAT64
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::a9fe:a9fe",
    "2002:7f00:1::1", // 6to4
    "2002:a9fe:a9fe::1",
    "2001::1", // Teredo
    "2001:0:a9fe:a9fe::1",
];

/// Addresses that are not of the public network, and may be those of pods.
pub const PRIVATE: [&str; 32] = [
    "10.0.0.1",
    "10.96.0.1",
    "10.255.255.254",
    "172.16.0.1",
    "172.31.255.254",
    "192.168.0.1",
    "192.168.255.254",
    "100.64.0.1",
    "100.127.255.254",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.254",
    "198.51.100.1",
    "203.0.113.1",
    "240.0.0.1",
    "254.1.2.3",
    "fc00::1",
    "fd12:3456::1",
    "fdff:ffff::1",
    "::ffff:10.0.0.1",
    "::ffff:192.168.0.1",
    "2001:db8::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "3ffe::1",
    "3fff::1",
    "100::1",
    "5f00::1",
    "4000::1",
];

/// Addresses that no connection can be made to; they are only refused.
pub const NOBODY: [&str; 5] = [
    "224.0.0.1",
    "239.1.2.3",
    "255.255.255.255",
    "ff02::1",
    "ff0e::1",
];

/// URLs that mean an address that is not public, whatever list they are on.
pub const URLS: &[(&str, &str)] = &[
    ("http://2130706433/health", "127.0.0.1:80"),
    ("http://0x7f000001/health", "127.0.0.1:80"),
    ("http://0x7f.0x0.0x0.0x1/health", "127.0.0.1:80"),
    ("http://0177.0.0.1/health", "127.0.0.1:80"),
    ("http://017700000001/health", "127.0.0.1:80"),
    ("http://00000177.0.0.01/health", "127.0.0.1:80"),
    ("http://127.1/health", "127.0.0.1:80"),
    ("http://127.0.1/health", "127.0.0.1:80"),
    ("http://0x7f.1/health", "127.0.0.1:80"),
    ("http://0/health", "0.0.0.0:80"),
    ("http://127.0.0.1./health", "127.0.0.1:80"),
    ("http://2852039166/health", "169.254.169.254:80"),
    ("http://0xA9FEA9FE/health", "169.254.169.254:80"),
    ("http://0251.0376.0251.0376/health", "169.254.169.254:80"),
    ("http://169.254.43518/health", "169.254.169.254:80"),
    ("http://169.0xfe.0251.254/health", "169.254.169.254:80"),
    ("http://[::ffff:7f00:1]/health", "127.0.0.1:80"),
    (
        "http://[0:0:0:0:0:ffff:a9fe:a9fe]/health",
        "169.254.169.254:80",
    ),
    (
        "http://[::ffff:169.254.169.254]/health",
        "169.254.169.254:80",
    ),
    (
        "http://[0000:0000:0000:0000:0000:0000:0000:0001]/health",
        "[::1]:80",
    ),
    ("http://[FD00:EC2::254]/health", "[fd00:ec2::254]:80"),
    ("http://１２７.０.０.１/health", "127.0.0.1:80"),
    ("http://①②⑦.⓪.⓪.①/health", "127.0.0.1:80"),
    ("http://127。0。0。1/health", "127.0.0.1:80"),
    ("http://127．0．0．1/health", "127.0.0.1:80"),
    ("http://127｡0｡0｡1/health", "127.0.0.1:80"),
    ("http://%31%32%37.0.0.1/health", "127.0.0.1:80"),
    (
        "http://%31%36%39%2e254.169.254/health",
        "169.254.169.254:80",
    ),
    (
        "http://%E2%91%A0%E2%91%A1%E2%91%A6.0.0.1/health",
        "127.0.0.1:80",
    ),
    ("http://127.0.0.1\t/health", "127.0.0.1:80"),
    ("http://127.0.0\n.1/health", "127.0.0.1:80"),
    ("http://127.0.0.1\r\n/health", "127.0.0.1:80"),
    ("ht\ttp://127.0.0.1/health", "127.0.0.1:80"),
    (" http://127.0.0.1/health", "127.0.0.1:80"),
    ("\u{0}http://127.0.0.1/health", "127.0.0.1:80"),
    ("http:127.0.0.1/health", "127.0.0.1:80"),
    ("http:/127.0.0.1/health", "127.0.0.1:80"),
    ("http:////127.0.0.1/health", "127.0.0.1:80"),
    ("http:\\\\127.0.0.1\\health", "127.0.0.1:80"),
    ("HTTP://127.0.0.1/health", "127.0.0.1:80"),
    ("hTtPs://127.0.0.1/health", "127.0.0.1:443"),
    ("https://10.0.0.1:10250/health", "10.0.0.1:10250"),
    ("http://10.0.0.1:2379/health", "10.0.0.1:2379"),
    ("http://127.0.0.1:080/health", "127.0.0.1:80"),
    ("http://127.0.0.1:/health", "127.0.0.1:80"),
    ("http://127.0.0.1:65616/health", "127.0.0.1:80"),
    ("http://[fe80::1]/health", "[fe80::1]:80"),
    ("http://[fe80::1%25lo]/health", "[fe80::1]:80"),
    ("http://[fe80::1%lo]/health", "[fe80::1]:80"),
    ("http://[::1%251]/health", "[::1]:80"),
    ("http://status.example.com@127.0.0.1/health", "127.0.0.1:80"),
    (
        "http://status.example.com:80@169.254.169.254/health",
        "169.254.169.254:80",
    ),
    (
        "http://status.example.com%2f@127.0.0.1/health",
        "127.0.0.1:80",
    ),
    (
        "http://status.example.com%00@127.0.0.1/health",
        "127.0.0.1:80",
    ),
    ("http://a@b@127.0.0.1/health", "127.0.0.1:80"),
    ("http://@127.0.0.1/health", "127.0.0.1:80"),
    ("http://:@127.0.0.1/health", "127.0.0.1:80"),
    (
        "http://127.0.0.1\\@status.example.com/health",
        "127.0.0.1:80",
    ),
    (
        "http://127.0.0.1#@status.example.com/health",
        "127.0.0.1:80",
    ),
    (
        "http://127.0.0.1?@status.example.com/health",
        "127.0.0.1:80",
    ),
    (
        "http://127.0.0.1#.status.example.com/health",
        "127.0.0.1:80",
    ),
    ("http://127.0.0.1/status.example.com/health", "127.0.0.1:80"),
    ("http://localhost/health", "127.0.0.1:80"),
    ("http://LOCALHOST/health", "127.0.0.1:80"),
    ("http://ⓛocalhost/health", "127.0.0.1:80"),
    ("http://ｌｏｃａｌｈｏｓｔ/health", "127.0.0.1:80"),
    ("http://local\u{ad}host/health", "127.0.0.1:80"),
    ("http://ip6-localhost/health", "[::1]:80"),
    (
        "http://metadata.google.internal/health",
        "169.254.169.254:80",
    ),
    ("gopher://127.0.0.1:80/_GET", "127.0.0.1:80"),
    ("ftp://127.0.0.1:80/health", "127.0.0.1:80"),
    ("dict://127.0.0.1:80/health", "127.0.0.1:80"),
    ("ws://127.0.0.1:80/health", "127.0.0.1:80"),
    ("jar:http://127.0.0.1/!/health", "127.0.0.1:80"),
    ("blob:http://127.0.0.1/health", "127.0.0.1:80"),
    ("url:http://127.0.0.1/health", "127.0.0.1:80"),
    ("//127.0.0.1/health", "127.0.0.1:80"),
    ("127.0.0.1:80/health", "127.0.0.1:80"),
];

/// URLs that look like those of the honest policy, and lead to [`EVIL`], or to what [`GOOD`] has beside its health.
pub const LOOKALIKES: &[(&str, &str)] = &[
    (
        "https://status.example.com.evil.test/health",
        "93.184.215.66:443",
    ),
    (
        "https://status.example.com@evil.test/health",
        "93.184.215.66:443",
    ),
    (
        "https://status.example.com:443@evil.test/health",
        "93.184.215.66:443",
    ),
    (
        "https://status.example.com%2f@evil.test/health",
        "93.184.215.66:443",
    ),
    (
        "https://status.example.com%40evil.test/health",
        "93.184.215.66:443",
    ),
    (
        "https://status.example.com%2eevil.test/health",
        "93.184.215.66:443",
    ),
    (
        "https://status.example.com。evil.test/health",
        "93.184.215.66:443",
    ),
    (
        "https://status.example.com%00.evil.test/health",
        "93.184.215.66:443",
    ),
    (
        "https://status.example.com\\.evil.test/health",
        "93.184.215.66:443",
    ),
    (
        "https://status.example.com\\@evil.test/health",
        "93.184.215.66:443",
    ),
    (
        "https://status.example.com-evil.test/health",
        "93.184.215.66:443",
    ),
    ("https://evilstatus.example.com/health", "93.184.215.66:443"),
    (
        "https://evil.test/https://status.example.com/health",
        "93.184.215.66:443",
    ),
    (
        "https://evil.test?https://status.example.com/health",
        "93.184.215.66:443",
    ),
    (
        "https://evil.test#https://status.example.com/health",
        "93.184.215.66:443",
    ),
    (
        "https://evil.test\\status.example.com/health",
        "93.184.215.66:443",
    ),
    (
        "https://evil.test%2f.status.example.com/health",
        "93.184.215.66:443",
    ),
    (
        "https://evil.test\n.status.example.com/health",
        "93.184.215.66:443",
    ),
    ("https://status.example.com/healthz", "93.184.215.14:443"),
    (
        "https://status.example.com/health.evil",
        "93.184.215.14:443",
    ),
    (
        "https://status.example.com/health%2fadmin",
        "93.184.215.14:443",
    ),
    (
        "https://status.example.com/health/../admin",
        "93.184.215.14:443",
    ),
    (
        "https://status.example.com/health/%2e%2e/admin",
        "93.184.215.14:443",
    ),
    (
        "https://status.example.com/health/.%2E/admin",
        "93.184.215.14:443",
    ),
    (
        "https://status.example.com/health/..%2fadmin",
        "93.184.215.14:443",
    ),
    (
        "https://status.example.com/health/%252e%252e/admin",
        "93.184.215.14:443",
    ),
    (
        "https://status.example.com/health/..\\admin",
        "93.184.215.14:443",
    ),
    (
        "https://status.example.com/health/..%5cadmin",
        "93.184.215.14:443",
    ),
    (
        "https://status.example.com/health/..;/admin",
        "93.184.215.14:443",
    ),
    (
        "https://status.example.com/health/%0d%0aHost:%20evil",
        "93.184.215.14:443",
    ),
    (
        "https://status.example.com/health/\t../admin",
        "93.184.215.14:443",
    ),
    (
        "https://status.example.com/health#/../admin",
        "93.184.215.14:443",
    ),
    ("https://status.example.com/HEALTH", "93.184.215.14:443"),
    ("https://status.example.com//health", "93.184.215.14:443"),
    ("https://status.example.com/./health", "93.184.215.14:443"),
    ("https://status.example.com/%68ealth", "93.184.215.14:443"),
    ("https://status.example.com?/health", "93.184.215.14:443"),
    ("https://status.example.com./health", "93.184.215.14:443"),
    ("http://status.example.com/health", "93.184.215.14:80"),
    ("http://status.example.com:443/health", "93.184.215.14:443"),
    (
        "https://status.example.com:8080/health",
        "93.184.215.14:8080",
    ),
    ("https://status.example.com:22/health", "93.184.215.14:22"),
    ("https://www.example.com/health", "93.184.215.14:443"),
    ("http://www.example.com:9090/health", "93.184.215.14:9090"),
];

/// Where an allowed server sends whoever asks it, and the address that this means.
pub const REDIRECTS: &[(&str, &str)] = &[
    (
        "http://169.254.169.254/latest/meta-data/",
        "169.254.169.254:80",
    ),
    (
        "http://[fd00:ec2::254]/latest/meta-data/",
        "[fd00:ec2::254]:80",
    ),
    ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
    ("http://[::1]/", "[::1]:80"),
    ("http://10.0.0.1/", "10.0.0.1:80"),
    ("https://10.0.0.1:10250/", "10.0.0.1:10250"),
    ("http://2130706433/", "127.0.0.1:80"),
    ("http://[::ffff:10.0.0.1]/", "10.0.0.1:80"),
    ("http://100.100.100.200/", "100.100.100.200:80"),
    ("//192.168.0.1/", "192.168.0.1:80"),
    ("http://private.example.com/", "10.0.0.1:80"),
    ("http://user:password@10.0.0.1/", "10.0.0.1:80"),
    ("\\\\172.16.0.1\\", "172.16.0.1:80"),
];

/// Names that lead to something that is not public; the last field is that address.
pub fn names() -> Vec<(Record, &'static str)> {
    let row =
        |name, through, addresses: &[&'static str], bad| (named(name, through, &[addresses]), bad);
    let many: Vec<_> = [GOOD; 20].into_iter().chain(["10.0.0.1"]).collect();
    vec![
        row("private.example.com", &[], &["10.0.0.1"], "10.0.0.1"),
        row("loop.example.com", &[], &["127.0.0.1"], "127.0.0.1"),
        row("127.0.0.1.nip.test", &[], &["127.0.0.1"], "127.0.0.1"),
        row(
            "meta.example.com",
            &[],
            &["169.254.169.254"],
            "169.254.169.254",
        ),
        row(
            "alibaba.example.com",
            &[],
            &["100.100.100.200"],
            "100.100.100.200",
        ),
        row(
            "azure.example.com",
            &[],
            &["168.63.129.16"],
            "168.63.129.16",
        ),
        row("zero.example.com", &[], &["0.0.0.0"], "0.0.0.0"),
        row("six.example.com", &[], &["::1"], "::1"),
        row("unique.example.com", &[], &["fd12::1"], "fd12::1"),
        row(
            "meta6.example.com",
            &[],
            &["fd00:ec2::254"],
            "fd00:ec2::254",
        ),
        row(
            "mapped.example.com",
            &[],
            &["::ffff:10.0.0.1"],
            "::ffff:10.0.0.1",
        ),
        row(
            "nat64.example.com",
            &[],
            &["64:ff9b::a9fe:a9fe"],
            "64:ff9b::a9fe:a9fe",
        ),
        row("mix.example.com", &[], &[GOOD, "10.0.0.1"], "10.0.0.1"),
        row("mix2.example.com", &[], &["10.0.0.1", GOOD], "10.0.0.1"),
        row("mix6.example.com", &[], &[GOOD, "fd12::1"], "fd12::1"),
        row(
            "mix64.example.com",
            &[],
            &[GOOD_SIX, "169.254.169.254"],
            "169.254.169.254",
        ),
        row("mix66.example.com", &[], &[GOOD_SIX, "::1"], "::1"),
        row("many.example.com", &[], &many, "10.0.0.1"),
        row(
            "alias.example.com",
            &["a.evil.test"],
            &["10.0.0.1"],
            "10.0.0.1",
        ),
        row(
            "chain.example.com",
            &["a.evil.test", "b.evil.test", "c.evil.test"],
            &["169.254.169.254"],
            "169.254.169.254",
        ),
        row(
            "mixed-chain.example.com",
            &["a.evil.test", "b.evil.test"],
            &[GOOD, "127.0.0.1"],
            "127.0.0.1",
        ),
        row(
            "xn--mnchen-3ya.example.com",
            &[],
            &["192.168.0.1"],
            "192.168.0.1",
        ),
    ]
}

/// Names whose first answer is public and whose second is not.
pub fn rebinding() -> Vec<(Record, &'static str)> {
    let row = |name, addresses: [&[&'static str]; 2], bad| (named(name, &[], &addresses), bad);
    vec![
        row("rebind1.example.com", [&[GOOD], &["10.0.0.1"]], "10.0.0.1"),
        row(
            "rebind2.example.com",
            [&[GOOD], &["127.0.0.1"]],
            "127.0.0.1",
        ),
        row(
            "rebind3.example.com",
            [&[GOOD], &["169.254.169.254"]],
            "169.254.169.254",
        ),
        row(
            "rebind4.example.com",
            [&[GOOD], &["fd00:ec2::254"]],
            "fd00:ec2::254",
        ),
        row("rebind5.example.com", [&[GOOD_SIX], &["::1"]], "::1"),
        row(
            "rebind6.example.com",
            [&[GOOD, GOOD_SIX], &["10.0.0.1", GOOD]],
            "10.0.0.1",
        ),
    ]
}

/// Names that lead where they may.
pub fn public() -> Vec<Record> {
    let mut names = vec![Record {
        name: "silent.example.com",
        through: &[],
        answers: Vec::new(),
    }];
    for name in ["status.example.com", "www.example.com", "other.example.com"] {
        names.push(named(name, &[], &[&[GOOD]]));
    }
    for name in [
        "evil.test",
        "status.example.com.evil.test",
        "status.example.com-evil.test",
        "evilstatus.example.com",
        "evil.test.status.example.com",
    ] {
        names.push(named(name, &[], &[&[EVIL]]));
    }
    names
}

fn named(name: &'static str, through: &'static [&'static str], answers: &[&[&str]]) -> Record {
    let parsed = |addresses: &&[&str]| addresses.iter().map(|text| text.parse().unwrap()).collect();
    Record {
        name,
        through,
        answers: answers.iter().map(parsed).collect(),
    }
}
