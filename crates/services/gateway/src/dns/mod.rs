//! The sandbox's DNS server: judge, resolve, record, answer.
