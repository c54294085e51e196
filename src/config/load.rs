//! Where configuration comes from, and how mistakes in it are told.
