//! Documents that quote the programs say what they say.
