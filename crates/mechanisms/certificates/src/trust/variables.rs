//! The variables, which programs read them, and where that is written. What could not be confirmed is not here.
//!
//! `SSL_CERT_DIR` is not set, on purpose. OpenSSL, Go and .NET look in their folder beside `SSL_CERT_FILE`, so the
//! system's folder goes on adding the system's certificates, which is harmless; curl and rustls-native-certs leave it
//! out when the file alone is set. A folder of ours would need hashed names for some clients. `NODE_USE_SYSTEM_CA` and
//! `DENO_TLS_CA_STORE=system` are not needed either: Node and Deno read a variable that adds.

/// What a variable is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// The path of the whole bundle, which takes the place of the client's own.
    Bundle,
    /// The path of our anchors alone, which are trusted beside the client's own.
    Anchors,
    /// Options that name the Java store, which takes the place of Java's own.
    JavaOptions,
}

/// A variable that makes clients trust us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it is set to.
    pub value: Value,
    /// Who reads it.
    pub readers: &'static [&'static str],
    /// Where that is written.
    pub source: &'static str,
}

/// All of them.
pub const VARIABLES: [Variable; 16] = [
    Variable {
        name: "SSL_CERT_FILE",
        value: Value::Bundle,
        readers: &[
            "OpenSSL and what asks it for its default store (Ruby; wget where it is built with OpenSSL)",
            "Python ssl (urllib, httpx, aiohttp)",
            "curl",
            "Go crypto/x509",
            "Rust rustls-native-certs (uv)",
            ".NET",
            "Bun (adds)",
            "CMake",
        ],
        source: "https://docs.openssl.org/master/man3/X509_get_default_cert_file/",
    },
    Variable {
        name: "CURL_CA_BUNDLE",
        value: Value::Bundle,
        readers: &["curl (the command; not libcurl)", "Python requests"],
        source: "https://curl.se/docs/sslcerts.html",
    },
    Variable {
        name: "REQUESTS_CA_BUNDLE",
        value: Value::Bundle,
        readers: &["Python requests", "pip", "Azure CLI"],
        source: "https://requests.readthedocs.io/en/latest/user/advanced/#ssl-cert-verification",
    },
    Variable {
        name: "PIP_CERT",
        value: Value::Bundle,
        readers: &["pip"],
        source: "https://pip.pypa.io/en/stable/topics/https-certificates/",
    },
    Variable {
        name: "NODE_EXTRA_CA_CERTS",
        value: Value::Anchors,
        readers: &["Node.js, npm", "Bun", "Deno from 2.8"],
        source: "https://nodejs.org/api/cli.html#node_extra_ca_certsfile",
    },
    Variable {
        name: "DENO_CERT",
        value: Value::Anchors,
        readers: &["Deno"],
        source: "https://docs.deno.com/runtime/reference/env_variables/",
    },
    Variable {
        name: "GIT_SSL_CAINFO",
        value: Value::Bundle,
        readers: &["git"],
        source: "https://git-scm.com/docs/git-config#Documentation/git-config.txt-httpsslCAInfo",
    },
    Variable {
        name: "CARGO_HTTP_CAINFO",
        value: Value::Bundle,
        readers: &["cargo"],
        source: "https://doc.rust-lang.org/cargo/reference/config.html#httpcainfo",
    },
    Variable {
        name: "AWS_CA_BUNDLE",
        value: Value::Bundle,
        readers: &["AWS CLI", "botocore", "AWS SDK for Go"],
        source: "https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-envvars.html",
    },
    Variable {
        name: "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
        value: Value::Bundle,
        readers: &["gcloud"],
        source: "https://cloud.google.com/sdk/gcloud/reference/config/set",
    },
    Variable {
        name: "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        value: Value::Bundle,
        readers: &["gRPC C core (C++, Python, Ruby, PHP)", "gRPC for Node.js"],
        source: "https://github.com/grpc/grpc/blob/master/doc/environment_variables.md",
    },
    Variable {
        name: "NIX_SSL_CERT_FILE",
        value: Value::Bundle,
        readers: &["nix", "programs of nixpkgs"],
        source: "https://nix.dev/manual/nix/stable/installation/env-variables",
    },
    Variable {
        name: "HTTPLIB2_CA_CERTS",
        value: Value::Bundle,
        readers: &["Python httplib2"],
        source: "https://github.com/httplib2/httplib2/blob/master/python3/httplib2/certs.py",
    },
    Variable {
        name: "BUNDLE_SSL_CA_CERT",
        value: Value::Bundle,
        readers: &["Ruby's Bundler"],
        source: "https://bundler.io/man/bundle-config.1.html",
    },
    Variable {
        name: "COMPOSER_CAFILE",
        value: Value::Bundle,
        readers: &["PHP's Composer"],
        source: "https://getcomposer.org/doc/03-cli.md#composer-cafile",
    },
    Variable {
        name: "JAVA_TOOL_OPTIONS",
        value: Value::JavaOptions,
        readers: &["Java virtual machines (they say on standard error that they read it)"],
        source: "https://docs.oracle.com/en/java/javase/21/security/java-secure-socket-extension-jsse-reference-guide.html",
    },
];
