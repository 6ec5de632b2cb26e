//! Writes audit events to a file before anything they speak of may happen.
