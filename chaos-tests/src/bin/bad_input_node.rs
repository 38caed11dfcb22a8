//! A `stead` on a host with handicaps: without some capabilities, without nft, or with a tiny disk.
//!
//! The handicaps of `stead agent --config <mesh>/<node>/agent.toml` stand in `<mesh>/../handicap-<node>`, one a
//! line (see [`chaos_tests::bad_input::Handicap`]). Everything else is the product, unchanged.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Err(error) = chaos_tests::bad_input::handicap::suffer(&arguments) {
        eprintln!("cannot take on the handicaps: {error:#}");
        return ExitCode::FAILURE;
    }
    stead::main()
}
