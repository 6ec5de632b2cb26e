//! AWS Signature Version 4 of requests and of streamed bodies. No I/O.
