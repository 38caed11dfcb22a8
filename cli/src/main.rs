//! The one binary.
fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("demo") => {
            let ok = stead::demo::run(&stead::demo::Options { nodes: 3, auto: true, keep: false, json: false })?;
            std::process::exit(i32::from(!ok));
        }
        Some("sample-site") => {
            stead::demo::sample_site(&args[2], args[3].clone().into())?;
        }
        Some("agent") => {
            tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_env("STEAD_LOG")).init();
            let create = args.iter().any(|a| a == "--create");
            let config = stead::agent_file::load(std::path::Path::new(&args[3]), create).map_err(|p| anyhow::anyhow!("{p:?}"))?;
            stead_node::agent::run(&config)?;
        }
        _ => {}
    }
    Ok(())
}
