//! Puts a mesh onto machines: servers over SSH, or network namespaces of this machine.

#[cfg(target_os = "linux")]
pub mod lab;
#[cfg(target_os = "linux")]
mod sys;
