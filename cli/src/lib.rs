//! stead keeps a one-person web site standing in its operator's stead.
