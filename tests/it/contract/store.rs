//! The contract of [`hadir::store::Store`].
