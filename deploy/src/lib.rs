//! Puts a mesh onto machines: servers over SSH, or network namespaces of this machine.
