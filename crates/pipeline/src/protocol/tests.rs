//! Scripted runs of the protocol, one for each rule.
