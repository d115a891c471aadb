//! What looks like a secret is taken out, what does not stays, and no text is too strange.

use proptest::prelude::*;
use rollback_core::message::redact::{HIDDEN, redact, redact_known};

/// Lines as containers write them, and what of each must not be kept.
const SECRETS: [(&str, &str); 125] = [
    ("pass=hunter2 host=db", "hunter2"),
    ("pass: hunter2", "hunter2"),
    ("pass : hunter2", "hunter2"),
    ("{\"user\":\"shop\",\"pass\":\"hunter2\"}", "hunter2"),
    ("user=shop,pass=hunter2,host=db", "hunter2"),
    ("PASS=hunter2 ./start", "hunter2"),
    ("pass => 'hunter2'", "hunter2"),
    ("redis-cli --pass hunter2 ping", "hunter2"),
    ("psk=hunter2", "hunter2"),
    ("psk: hunter2", "hunter2"),
    ("WIFI_PSK=hunter2", "hunter2"),
    ("wpa_psk=\"two words\"", "two words"),
    ("mysql -h db -u shop -phunter2 shop", "hunter2"),
    ("mysqldump -phunter2 shop > dump.sql", "hunter2"),
    (
        "/usr/bin/mysqladmin -u root -p'hunter two' status",
        "hunter two",
    ),
    ("mariadb -uroot -phunter2", "hunter2"),
    (
        "args: [\"mysql\", \"-phunter2\", \"-h\", \"db\"]",
        "hunter2",
    ),
    ("+ mysql -hdb -p$hunter2!x", "hunter2"),
    ("redis-cli -h redis -a hunter2 ping", "hunter2"),
    ("[\"redis-cli\",\"-a\",\"hunter2\",\"ping\"]", "hunter2"),
    ("valkey-cli -a 'hunter two' ping", "hunter two"),
    ("sshpass -p hunter2 ssh shop@db", "hunter2"),
    ("sshpass -phunter2 ssh shop@db", "hunter2"),
    ("mongosh -u shop -p hunter2 db", "hunter2"),
    (
        "docker login -u shop -p hunter2 registry.example",
        "hunter2",
    ),
    ("ldapsearch -x -D cn=admin -w hunter2 -b dc=shop", "hunter2"),
    ("sqlcmd -S db -U sa -P hunter2", "hunter2"),
    ("mosquitto_pub -h mq -u shop -P hunter2 -t x", "hunter2"),
    ("keytool -list -storepass hunter2", "hunter2"),
    ("tool -password hunter2 -v", "hunter2"),
    ("requirepass hunter2", "hunter2"),
    ("machine db login shop password hunter2", "hunter2"),
    ("CREATE USER shop IDENTIFIED BY 'hunter2'", "hunter2"),
    (
        "ALTER USER shop IDENTIFIED WITH caching_sha2 BY 'hunter2'",
        "hunter2",
    ),
    ("the password is hunter2", "hunter2"),
    ("password is hunter", "hunter"),
    ("Your password was: Hunter2!", "Hunter2!"),
    ("the passphrase is 'correct horse battery'", "correct horse"),
    ("the api_key is abc123XYZ", "abc123XYZ"),
    ("passphrase: correct horse battery", "correct horse"),
    ("Server=db;Uid=sa;Pwd=hunter2;", "hunter2"),
    ("connecting with password=hunter2", "hunter2"),
    ("DB_PASSWORD=s3cr3t-Pass starting", "s3cr3t-Pass"),
    ("PGPASSWORD=abc psql -h db", "abc"),
    ("password: correct horse battery staple", "horse battery"),
    ("password : 'two words'", "two words"),
    ("  passwd: \"pa ss\\\"word\"", "word"),
    ("{\"password\":\"hunter2\",\"user\":\"shop\"}", "hunter2"),
    ("{\"user\": \"shop\", \"api_key\": \"k-17\"}", "k-17"),
    ("{\\\"secret\\\":\\\"hunter2\\\",\\\"n\\\":1}", "hunter2"),
    ("{'apiKey': 'k-17-x', 'n': 1}", "k-17-x"),
    (":password=>\"hunter2\", :user=>\"shop\"", "hunter2"),
    ("password => hunter2", "hunter2"),
    ("{Host:db Password:hunter2 User:shop}", "hunter2"),
    (
        "Config { user: \"shop\", password: \"hunter2\" }",
        "hunter2",
    ),
    ("<password>hunter2</password>", "hunter2"),
    (
        "<connection password=\"hunter2\" user=\"shop\"/>",
        "hunter2",
    ),
    ("<add key=\"ApiToken\" value=\"hunter2\"/>", "hunter2"),
    (
        "{\"name\":\"DB_PASSWORD\",\"value\":\"hunter2\"}",
        "hunter2",
    ),
    ("- name: DB_PASSWORD\n  value: hunter2", "hunter2"),
    ("spring.datasource.password=hunter2", "hunter2"),
    ("--password hunter2 --host db", "hunter2"),
    ("--api-key=hunter2 --host db", "hunter2"),
    ("mysql --password 'hunter two'", "hunter two"),
    ("ALTER ROLE shop PASSWORD 'hunter2'", "hunter2"),
    ("GET /login?user=a&token=hunter2&next=/ 200", "hunter2"),
    ("GET /maps?key=hunter2&x=1", "hunter2"),
    (
        "https://a.blob.core/x?sv=1&sig=abc%2Fdef%3D&se=2",
        "abc%2Fdef",
    ),
    ("callback?password%3Dhunter2", "hunter2"),
    (
        "Server=db;User Id=sa;Password=hun;ter2;Database=shop",
        "ter2",
    ),
    (
        "AccountName=x;AccountKey=hunter2==;EndpointSuffix=core",
        "hunter2",
    ),
    ("ConnectionString: 'Server=db;User=sa'", "Server=db"),
    ("dsn=shop:hunter2@tcp(db:3306)/shop", "hunter2"),
    ("open shop:hunter2@tcp(db:3306)/shop: refused", "hunter2"),
    (
        "postgresql://shop:hunter2@db:5432/shop?schema=public",
        "hunter2",
    ),
    ("postgres://shop:hun/ter2@db:5432/shop", "ter2"),
    ("redis://:hunter2@redis:6379/0", "hunter2"),
    ("amqp://shop:hunter2@mq", "hunter2"),
    (
        "mongodb+srv://shop:p%40ss@a.example,b.example/shop",
        "p%40ss",
    ),
    ("https://hunter2token@git.example/shop.git", "hunter2token"),
    ("connect shop:hunter2@db.example:5432 failed", "hunter2"),
    ("Authorization: Basic c2hvcDpodW50ZXIy", "c2hvcDpodW50ZXIy"),
    ("authorization: Bearer hunter2", "hunter2"),
    ("> Authorization: hunter2", "hunter2"),
    (
        "map[Authorization:[Bearer hunter2] Accept:[*/*]]",
        "hunter2",
    ),
    (
        "curl -H 'Authorization: Token hunter2' https://x",
        "hunter2",
    ),
    ("curl -u shop:hunter2 https://x", "hunter2"),
    ("sent Bearer abc123def456", "abc123def456"),
    ("using basic QWxhZGRpbjpvcGVu", "QWxhZGRpbjpvcGVu"),
    ("Cookie: sid=hunter2; theme=dark", "hunter2"),
    ("set-cookie: session=hunter2; Path=/; HttpOnly", "hunter2"),
    ("\"Set-Cookie\": [\"a=hunter2; Path=/\"]", "hunter2"),
    ("JSESSIONID=hunter2", "hunter2"),
    ("session=hunter2", "hunter2"),
    ("X-Api-Key: hunter2", "hunter2"),
    ("x-vault-token: hunter2", "hunter2"),
    ("credentials: {user: shop, pass: hunter2}", "hunter2"),
    ("\"tokens\": [\"hunter2\", \"hunter3\"]", "hunter3"),
    ("client_secret=hunter2&grant_type=x", "hunter2"),
    ("secret = hunter2", "hunter2"),
    (
        "private_key: |\n  hunter2\n  hunter3\nuser: shop",
        "hunter3",
    ),
    ("private_key=hunter2", "hunter2"),
    ("${DB_PASSWORD:-hunter2}", "hunter2"),
    ("export SMTP_PASS=hunter2", "hunter2"),
    ("token: Bearer hunter2", "hunter2"),
    (
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP",
        "dBjftJeZ4CVP",
    ),
    ("jwt eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "eyJhbGci"),
    (
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----",
        "MIIE",
    ),
    ("key -----BEGIN EC PRIVATE KEY-----\nMHcCAQ\nhalf", "half"),
    (
        "MIIEow\nabcd==\n-----END PRIVATE KEY-----\nstarting",
        "abcd",
    ),
    (
        "-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----\\n",
        "MIIE",
    ),
    ("aws AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    ("aws ASIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"),
    ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "K7MDENG"),
    (
        "push with ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "ghp_16C7",
    ),
    ("github_pat_11ABCDE0Y0abcdefghij_KLMN", "11ABCDE0Y0"),
    ("ci glpat-xY12_abcdEFGH", "xY12"),
    (
        concat!("slack xox", "b-123456789012-abcdefABCDEF"),
        "123456789012",
    ),
    (concat!("stripe sk_", "live_4eC39HqLyjWD"), "4eC39HqLyjWD"),
    ("maps AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY", "72PouQMnMX"),
    ("id 7c9c41d6-8a9c-4c0e-9d3b-5d9b6f1f2a10", "8a9c"),
    ("hash 5f4dcc3b5aa765d61d8327deb882cf99", "5f4dcc3b"),
    (
        "got q2K9xT7mB4vR1nZ8sL5w from vault",
        "q2K9xT7mB4vR1nZ8sL5w",
    ),
    ("got a8f5k2j9x0q7w3e1r6t4 from vault", "a8f5k2j9x0"),
    (
        "https://hooks.chat.example/services/T00/B00/aB3dE6gH9jK2mN5pQ8sT1vW4",
        "gH9jK2",
    ),
];

/// Lines that help at night and give nothing away.
const HARMLESS: [&str; 92] = [
    "12 tests pass: 3 more to go",
    "tests pass: 12",
    "# pass 12",
    "--- PASS: TestOrders (0.01s)",
    "PASS: tests/orders",
    "{\"pass\":true}",
    "all checks pass, nothing failed",
    "pass: all is well",
    "bypass: no",
    "the compass: north",
    "ssh -p 2222 shop@db",
    "ssh -p2222 shop@db",
    "docker run -p 8080:80 shop",
    "kubectl logs -p api-7d9f8b6c5d-x2x9k",
    "mkdir -p /var/lib/data",
    "mysql -h db -u shop -p shop",
    "mysql -P3306 -h db",
    "find /var/lib/mysql -print",
    "psql -p 5432 -h db",
    "mongosh -p 27017",
    "redis-cli -h redis -p 6379 ping",
    "nc -w 5 db 5432",
    "grep -w orders -a log",
    "  -password string\n    \tthe password of the database",
    "the password is wrong",
    "Password is required and is too short",
    "your password is about to expire",
    "the token is expired, the secret is immutable",
    "the credential was not found",
    "sorted by \"name\" and identified early",
    "Error: Environment variable not found: DATABASE_URL.",
    "PrismaClientInitializationError: Can't reach database server at `postgres:5432`",
    "P1001: Can't reach database server at `db.shop.svc.cluster.local:5432`",
    "P3009: migrate found failed migrations in the target database, new migrations will not be applied",
    "The `20231101123456_add_user_column` migration started at 2023-11-01 12:34:56.789 UTC failed",
    "Following migration have not yet been applied: 20231101123456_create_orders_table",
    "    at Object.<anonymous> (/usr/src/app/dist/main.js:17:9)",
    "    at Module._compile (node:internal/modules/cjs/loader:1358:14)",
    "    at async NestFactoryStatic.create (/usr/src/app/node_modules/@nestjs/core/nest-factory.js:48:20)",
    "TypeError: Cannot read properties of undefined (reading 'id')",
    "JsonWebTokenError: jwt malformed",
    "TokenExpiredError: jwt expired",
    "SyntaxError: Unexpected token } in JSON at position 17",
    "Node.js v22.11.0",
    "npm ERR! notarget No matching version found for react@18.2.0",
    "UnhandledPromiseRejectionWarning: Error: connect ECONNREFUSED 10.0.0.17:6379",
    "panic: runtime error: invalid memory address or nil pointer dereference",
    "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x4a1b2c]",
    "goroutine 1 [running]:",
    "main.main()\n\t/src/cmd/api/main.go:42 +0x1d",
    "dial tcp 10.96.0.10:53: i/o timeout",
    "x509: certificate signed by unknown authority",
    "java.lang.IllegalStateException: Failed to load ApplicationContext",
    "\tat org.springframework.boot.SpringApplication.run(SpringApplication.java:1361)",
    "Caused by: com.zaxxer.hikari.pool.HikariPool$PoolInitializationException: Failed to initialize pool",
    "Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space",
    "Traceback (most recent call last):\n  File \"/app/main.py\", line 17, in <module>",
    "ModuleNotFoundError: No module named 'psycopg2'",
    "sqlalchemy.exc.OperationalError: could not connect to server: Connection refused",
    "thread 'main' panicked at src/main.rs:17:9: index out of bounds: the len is 3 but the index is 7",
    "FATAL: password authentication failed for user \"shop\"",
    "Access denied for user 'shop'@'10.0.0.1' (using password: YES)",
    "ERROR: column \"currency\" of relation \"orders\" does not exist",
    "ORA-01017: invalid username/password; logon denied",
    "failed to fetch anonymous token: unexpected status: 401 Unauthorized",
    "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
    "Back-off pulling image \"registry.broxiva.example/broxiva-api:v2.1.5\"",
    "Failed to pull image \"registry.broxiva.example/shop/broxiva-web-frontend:2026-11-23.17-release\": not found",
    "image registry.broxiva.example/broxiva-api@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "back-off 5m0s restarting failed container=api pod=broxiva-api-7d9f8b6c5d-x2x9k_shop(7c9c41d6-8a9c-4c0e-9d3b-5d9b6f1f2a10)",
    "couldn't find key DB_PASSWORD in Secret shop/broxiva-api-env",
    "secret \"broxiva-api-env\" not found",
    "configmap \"broxiva-api-settings\" not found",
    "MountVolume.SetUp failed for volume \"tls\" : secret \"broxiva-api-tls\" not found",
    "Readiness probe failed: HTTP probe failed with statuscode: 503",
    "Liveness probe failed: Get \"http://10.244.1.17:8080/health/live\": context deadline exceeded",
    "0/5 nodes are available: 5 Insufficient memory. preemption: 0/5 nodes are available",
    "pods \"broxiva-api-7d9f8b6c5d-\" is forbidden: exceeded quota: compute, requested: cpu=2, used: cpu=4, limited: cpu=5",
    "error looking up service account shop/broxiva-api: serviceaccount \"broxiva-api\" not found",
    "OOMKilled: container broxiva-api used more than 512Mi",
    "failed to create containerd task: exec: \"/docker-entrypoint.sh\": no such file or directory",
    "2026-11-23T14:02:05.123456789Z stderr F listening on http://0.0.0.0:8080",
    "{\"level\":\"error\",\"ts\":\"2026-11-23T14:02:05Z\",\"msg\":\"cannot open /var/lib/data/orders.db\"}",
    "level=error ts=2026-11-23T14:02:05.123Z caller=server.go:17 msg=\"listen failed\" err=\"address already in use\"",
    "GET https://api.shop.svc.cluster.local:8443/v1/orders?page=2&limit=50 503 in 17ms",
    "git clone ssh://git@git.example/shop.git failed",
    "loaded /static/js/main.3f2a9c8b7d6e5f4a3b2c.chunk.js",
    "node_modules/.pnpm/@prisma+client@5.22.0_prisma@5.22.0/node_modules/@prisma/client/runtime/library.js:121",
    "using Authorization header of the caller; bearer authentication is on",
    "no token was given; max_tokens=4096 is the limit of tokens",
    "password=\"\" secret=null token: undefined",
    "order 20261123140205 of customer 1234567890123456789012 failed: total is -1",
];

#[test]
fn secrets_are_taken_out() {
    let shown: Vec<String> = SECRETS
        .iter()
        .map(|(line, secret)| (line, secret, redact(line)))
        .filter(|(line, secret, kept)| {
            assert!(line.contains(**secret), "{line}");
            kept.contains(**secret) || !kept.contains(HIDDEN)
        })
        .map(|(line, _, kept)| format!("{line}\n  -> {kept}"))
        .collect();
    assert!(shown.is_empty(), "{}", shown.join("\n"));
}

#[test]
fn a_secret_of_chance_is_taken_out_wherever_it_stands() {
    // What a password generator gives, without any word beside it.
    let alphabet: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').collect();
    let mut state = 17_u64;
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        alphabet[usize::try_from(state >> 33).unwrap() % alphabet.len()]
    };
    let kept = (0..2000)
        .map(|_| (0..32).map(|_| draw()).collect::<String>())
        .filter(|secret| redact(&format!("got {secret}, going on")).contains(secret.as_str()))
        .count();
    assert!(kept <= 2, "{kept} of 2000 are kept");
}

#[test]
fn what_is_harmless_stays() {
    let changed: Vec<String> = HARMLESS
        .iter()
        .map(|line| (line, redact(line)))
        .filter(|(line, kept)| kept != **line)
        .map(|(line, kept)| format!("{line}\n  -> {kept}"))
        .collect();
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

#[test]
fn what_surrounds_a_secret_stays() {
    for (line, kept) in [
        (
            "connect postgresql://shop:hunter2@db:5432/shop failed",
            "connect postgresql://[hidden]@db:5432/shop failed",
        ),
        (
            "{\"password\":\"hunter2\",\"user\":\"shop\"}",
            "{\"password\":\"[hidden]\",\"user\":\"shop\"}",
        ),
        (
            "GET /x?token=hunter2&page=2 200",
            "GET /x?token=[hidden]&page=2 200",
        ),
        ("password=hunter2 host=db", "password=[hidden] host=db"),
        (
            "Server=db;Password=hunter2;Database=shop",
            "Server=db;Password=[hidden];Database=shop",
        ),
        (
            "a\n-----BEGIN X-----\nq\n-----END X-----\nb",
            "a\n[hidden]\nb",
        ),
        (
            "Authorization: Basic abc\nHost: shop",
            "Authorization: [hidden]\nHost: shop",
        ),
    ] {
        assert_eq!(redact(line), kept);
    }
}

#[test]
fn known_values_are_taken_out_wherever_they_stand() {
    assert_eq!(
        redact_known("tulip and tulips, xtulipx", &["tulip", "tulips", "", "a"]),
        "[hidden] and [hidden], x[hidden]x"
    );
    assert_eq!(
        redact_known("[hidden] tulip", &["hidden", "tulip"]),
        "[hidden] [hidden]"
    );
    assert_eq!(
        redact_known("password=tulip17", &["tulip"]),
        "password=[hidden]"
    );
}

/// Pieces that the rules look for, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "password",
            "token",
            "Authorization",
            "cookie",
            "pwd",
            "dsn",
            "--secret",
            "-u",
            "Bearer ",
            "<pwd>",
            "value",
            "=",
            ":",
            ": ",
            "=>",
            "://",
            "@",
            "\"",
            "\\\"",
            "'",
            "\"\"\"",
            "`",
            "\\",
            "{",
            "}",
            "[",
            "]",
            "(",
            ")",
            "|",
            "|\n  ",
            ">",
            "<",
            "</",
            "&",
            "?",
            ";",
            ",",
            " ",
            "\n",
            "\r\n",
            "\t",
            "/",
            ".",
            "-",
            "_",
            "%3D",
            "-----BEGIN",
            "-----END",
            "-----",
            "[hidden]",
            "sha256:",
            "eyJhbGciOi.",
            "AKIA",
            "ghp_",
            "💥",
            "ü",
            "\u{0}",
            "\u{2028}",
        ])
        .prop_map(str::to_owned),
        "[a-zA-Z0-9+/_-]{1,40}",
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_taken_once_and_stays_bounded(text in pieces()) {
        let once = redact(&text);
        prop_assert!(once.len() <= 3 * text.len() + HIDDEN.len(), "{once:?}");
        prop_assert_eq!(redact(&once), once);
    }

    #[test]
    fn a_value_in_quotes_never_stays(
        key in prop::sample::select(vec!["password", "apiKey", "client_secret", "SESSION", "db-pwd", "x.token"]),
        value in "[a-z0-9 !#$%&()*+,./:;<=>?@^_{|}~-]{8,40}",
    ) {
        for line in [
            format!("{{\"{key}\": \"{value}\"}}"),
            format!("{key}='{value}' next"),
            format!("{key} = \"{value}\""),
        ] {
            prop_assert!(!redact(&line).contains(value.as_str()), "{}", line);
        }
    }
}

#[test]
fn sixty_four_kibibytes_of_anything_come_to_an_end() {
    for piece in [
        "a",
        "a ",
        "a:",
        "a://",
        "a/",
        "a+",
        "A1",
        "pwd=",
        "pwd=\"",
        "pwd=\"a\" ",
        "pwd: a,",
        "pwd: ",
        "token: [",
        "token: {",
        "\"",
        "\\\"",
        "-----BEGIN",
        "-----END",
        "-----BEGIN-----END",
        "Authorization: ",
        "-u a ",
        "<pwd>",
        "password \"",
        "password\", ",
        "a@b:",
        "7c9c-",
        "eyJ",
        "\n",
        "MIIE\n",
        "ghp_",
        "💥",
        "token=a&",
        "token=a;b c ",
        "pwd: |\n ",
        "bearer ",
        "value",
        "a(",
        "_shop(",
    ] {
        let text = piece.repeat(64 * 1024 / piece.len());
        // What is not linear does not come to an end here.
        let kept = redact(&text);
        assert!(kept.len() <= 3 * text.len() + HIDDEN.len());
    }
}
