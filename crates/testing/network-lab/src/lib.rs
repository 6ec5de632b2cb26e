//! An internet of its own for each test, in namespaces with no link outside.
