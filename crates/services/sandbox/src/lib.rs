//! Starts a program in namespaces with no way out but the sockets handed to the gateway.
