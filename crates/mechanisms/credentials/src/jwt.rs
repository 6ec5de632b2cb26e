//! Signed statements of who we are (JSON Web Tokens, RS256): Google's service accounts and GitHub's Apps want them.
