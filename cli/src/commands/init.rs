//! `stead init`.

use crate::args::InitArgs;
use crate::exit::{Exit, Failure};
use crate::init::{InitError, NewNode, Plan, write};
use crate::json::{Made, MadeNode};
use crate::output::Output;
use crate::render;
use crate::site_file::SiteFile;
use std::path::PathBuf;
use stead_proto::id::{Name, NodeId};
use stead_proto::roster::{OperatorRole, Role};
use stead_proto::site::Site;

pub(super) fn run(args: &InitArgs, output: &Output) -> Result<Exit, Failure> {
    let written = write(&plan(args)?).map_err(failure)?;
    let made = |((id, directory), (name, _, address)): (&(NodeId, PathBuf), (&Name, Role, &str))| MadeNode {
        name: name.to_string(),
        id: id.0,
        address: address.into(),
        directory: directory.display().to_string(),
    };
    let nodes = written.nodes.iter().zip(args.all()).map(made);
    let made = Made {
        cluster: written.cluster.to_string(),
        nodes: nodes.collect(),
        context: written.contexts.first().map(|path| path.display().to_string()).unwrap_or_default(),
    };
    output.document(&made, render::made)?;
    Ok(Exit::Ok)
}

fn plan(args: &InitArgs) -> Result<Plan, Failure> {
    let site = match &args.site {
        Some(path) => {
            let file = SiteFile::load(path).map_err(Failure::Problems)?;
            let names: Vec<&Name> = args.all().map(|(name, _, _)| name).collect();
            let problems = file.unknown_nodes(&names);
            if !problems.is_empty() {
                return Err(Failure::Problems(problems));
            }
            file.site
        }
        None => Site::default(),
    };
    let node = |(name, role, address): (&Name, Role, &str)| {
        let node = NewNode::new(name.clone(), role, address);
        match &args.uplink {
            Some(uplink) => node.with("uplink", uplink.as_str()),
            None => node,
        }
    };
    if !args.operators.iter().any(|(_, role)| *role == OperatorRole::Admin) {
        return Err(Failure::Usage(
            "no operator is an admin: nobody could ever apply a site; add --operator NAME".into(),
        ));
    }
    Ok(Plan {
        nodes: args.all().map(node).collect(),
        operators: args.operators.clone(),
        site,
        out: args.out_dir.clone(),
    })
}

fn failure(error: InitError) -> Failure {
    match error {
        InitError::Exists(_) | InitError::Unsound(_) | InitError::Size(_) => {
            Failure::Usage(error.to_string())
        }
        InitError::Key(_) | InitError::Write { .. } => Failure::Failed(error.to_string()),
    }
}
