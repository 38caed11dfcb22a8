//! The `stead` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    stead::main()
}
