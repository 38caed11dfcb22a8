//! The arguments, and their help.

mod values;

use crate::exit::CODES;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;
use std::time::Duration;
use stead_proto::id::{Name, PublicKey};
use stead_proto::outside::HostKey;
use stead_proto::roster::{OperatorRole, Role};
use values::{new_node, new_operator, probation, time};

/// stead keeps a one-person web site standing in its operator's stead.
#[derive(Debug, Parser)]
#[command(name = "stead", version, after_long_help = CODES, max_term_width = 100, infer_subcommands = false)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// How to do it
    #[command(flatten)]
    pub global: Global,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Print JSON, in a documented shape that stays
    #[arg(long, global = true)]
    pub json: bool,
    /// The mesh to speak to: its mesh.toml
    ///
    /// Without it: ./mesh.toml, ~/.config/stead/mesh.toml, /etc/stead/mesh.toml; and on a server, as root, the agent's
    /// own socket.
    #[arg(long, global = true, value_name = "FILE", env = "STEAD_CONTEXT")]
    pub context: Option<PathBuf>,
    /// Colour words of state; NO_COLOR is respected
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// How long to wait for answers, such as 3s [default: 1500ms, and 10s for orders]
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    pub timeout: Option<Duration>,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent of this server
    #[command(after_long_help = "\
Examples:
  stead agent --config /etc/stead/agent.toml --create   # the very first start of this node
  stead agent --config /etc/stead/agent.toml --check    # only read the file, and say what is wrong

The agent runs until it is told to stop (SIGTERM), and then ends with 0. When its uplink was missing and
appears, or comes back as another interface, it ends with exit code 5, to be started again at once: let its
unit say Restart=on-failure or Restart=always. Leases survive that. Any other code is a failure.")]
    Agent(AgentArgs),
    /// Play a mesh on this machine: servers die, and a visitor notices almost nothing
    #[command(after_long_help = "\
Nothing but a Linux kernel is needed: the servers are network namespaces of this machine, their addresses
exist only in there, and nothing is left behind. Without root it runs in a user namespace.

Examples:
  stead demo                  # act by act, as you press Enter
  stead demo --auto --json    # without waiting; the outages as JSON, exit code 0 if none was too long")]
    Demo(DemoArgs),
    /// The small web site that a node of the demo serves
    #[command(
        hide = true,
        after_long_help = "\
Examples:
  stead sample-site a /tmp/hang
  stead sample-site b /tmp/hang     # after `touch /tmp/hang` it accepts, and never answers"
    )]
    SampleSite {
        /// Who serves
        name: String,
        /// While this file exists, the site accepts and never answers
        hang_while: PathBuf,
    },
    /// Make the keys and the configuration of a new mesh
    #[command(after_long_help = "\
Examples:
  stead init --node a=10.0.0.1 --node b=10.0.0.2 --witness w=10.0.0.3 --site site.toml ./mesh
  stead init --node a=web1.example.org --node b=web2.example.org --operator ann --operator bob=caretaker ./mesh")]
    Init(InitArgs),
    /// Ask every node how the mesh is, and show what a majority agrees on
    #[command(after_long_help = "\
Examples:
  stead status
  stead status --json | jq -r .health     # ok, degraded or no-quorum; the exit code is 0 or 3")]
    Status,
    /// List the nodes
    #[command(after_long_help = "\
Examples:
  stead nodes
  stead nodes --json | jq '.nodes[] | select(.opinion != \"agrees\")'")]
    Nodes,
    /// List the endpoints and who holds them
    #[command(after_long_help = "\
Examples:
  stead endpoints
  stead endpoints --json | jq -r '.endpoints[] | [.name, .holder] | @tsv'")]
    Endpoints,
    /// List the services and how they are on each node
    #[command(after_long_help = "\
Examples:
  stead services
  stead services --json | jq '.services[].nodes[] | select(.state == \"down\")'")]
    Services,
    /// List what happened, or tell one event from first sign to end
    #[command(after_long_help = "\
With --evidence it shows what a node was cut off for: who testified, and the node's own signed reports. With --export it
writes all of that into a file, which anybody can verify later with --verify, without a mesh and by other code than the
nodes have: every signature, that enough of the others agree, and that the reports really convict. Give --genesis to be
sure that it is of your mesh.

Examples:
  stead incidents
  stead incidents 97
  stead incidents 97 --evidence --export b.json
  stead incidents --verify b.json --genesis ./mesh/a/genesis.bin")]
    Incidents {
        /// The number of one incident
        id: Option<u64>,
        /// Only those that go on
        #[arg(long, conflicts_with = "id")]
        open: bool,
        /// Show what speaks against a node that was cut off
        #[arg(long, requires = "id")]
        evidence: bool,
        /// Write it into a file
        #[arg(long, value_name = "FILE", requires = "evidence")]
        export: Option<PathBuf>,
        /// Verify such a file
        #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "open"])]
        verify: Option<PathBuf>,
        /// The genesis of your mesh, as you have it
        #[arg(long, value_name = "FILE", requires = "verify")]
        genesis: Option<PathBuf>,
    },
    /// Say why an endpoint is where it is, and who would be next
    #[command(after_long_help = "\
Examples:
  stead why www
  stead why www --json | jq '.candidates[] | select(.verdict == \"unable\")'")]
    Why {
        /// Which endpoint
        endpoint: Name,
    },
    /// Show how many connections every node opens and gets, and any flood, with what the detectors say
    #[command(after_long_help = "\
A SYN opens a connection. `cut` is what the node's kernel held back; of what it let pass, `forged` was made by hand (raw
and packet sockets), `unanswered` got no answer, and `targets` is to how many addresses it went. Posture: a `free` node may
open connections up to the site's ceiling; one that is `throttled` is held to the limit and the allow-list of
[guard] in site.toml; one with `no limit` has nothing in its kernel that could hold it.

Examples:
  stead syn
  stead syn --watch            # twice a second, with the last 60 answers as pictures
  stead syn --json | jq '.nodes[] | select(.flood != null) | [.node, .flood.targets]'
  stead syn --watch --json | jq -c '[.nodes[] | [.node, .out.syn, .inbound.syn]]'")]
    Syn {
        /// Go on, twice a second
        #[arg(long)]
        watch: bool,
    },
    /// Show who is accused by whom, of what, and who was cut off on whose word
    #[command(after_long_help = "\
A node is cut off without you when more than half of all voters testify against it, each of what it found by itself, and the
accused is not counted. A case that nobody confirms ends by itself after a minute.

Examples:
  stead cases
  stead cases --json | jq -r '.isolated[] | [.node, .by[]] | @tsv'")]
    Cases,
    /// Examine every node: what its kernel lets it do, what else is wrong with it, and what to do
    #[command(after_long_help = "\
What an agent can do depends on its machine: how a lease ends in the kernel, what the sensors see, whether a flood can
be held. Each such part stands on a rung of its ladder: the best, a lower one that costs something, or none. The
exit code is 0 if all parts stand on their best rung, everybody answered and nothing else is wrong, and 3 otherwise.

Examples:
  stead doctor
  stead doctor b
  stead doctor --json | jq -r '.todo[]'
  stead doctor > /dev/null || mail -s 'stead has something to do' me@example.org")]
    Doctor {
        /// Only this node
        node: Option<Name>,
    },
    /// Move an endpoint to a node (caretakers and admins)
    #[command(after_long_help = "\
Examples:
  stead move www --to b
  stead move www --to b --no-wait     # return as soon as it is committed")]
    Move {
        /// Which endpoint
        endpoint: Name,
        /// Where to
        #[arg(long, value_name = "NODE")]
        to: Name,
        /// Do not wait until the node serves it
        #[arg(long)]
        no_wait: bool,
    },
    /// Let a node hold nothing, before you work on it (caretakers and admins)
    #[command(after_long_help = "\
Examples:
  stead drain b && ssh b reboot
  stead undrain b     # afterwards")]
    Drain {
        /// Which node
        node: Name,
        /// Do not wait until it has given away what it holds
        #[arg(long)]
        no_wait: bool,
    },
    /// Let a drained node hold endpoints again (caretakers and admins)
    #[command(after_long_help = "\
Examples:
  stead undrain b
  stead undrain b --json")]
    Undrain {
        /// Which node
        node: Name,
    },
    /// Take a server into the mesh: its key and files, and the order that admits it (admins)
    #[command(after_long_help = "\
It can be run again at any time: what is done already stays, what is missing is done. A node that lost its disk
comes back as a new one under its old name: first `stead remove b`, then this.

Examples:
  stead admit d=10.0.0.4 --out ./d            # then copy ./d to the server, and start its agent
  stead admit w=10.0.0.5 --role witness --out ./w
  stead admit b=10.0.0.2 --out ./b-new        # after `stead remove b`")]
    Admit(AdmitArgs),
    /// Take a node out of the mesh for good: nobody lets it in any more (admins)
    #[command(after_long_help = "\
It gives away what the node holds, takes its vote, waits until it does not vote, and removes it. Run it again
if it was interrupted. The node's name is free afterwards; its key is refused for ever.

Examples:
  stead remove b
  stead remove b --yes --json")]
    Remove {
        /// Which node
        node: Name,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Cut a node off at once and for good, because you do not trust it any more (caretakers and admins)
    #[command(after_long_help = "\
All others close their connections with it, refuse its key, drop its addresses and count on nothing that it says; what it
served is served elsewhere. It stays in the roster until you remove it, and comes back only as a new node under a
new key. Nothing is done that would leave too few voters to go on.

Examples:
  stead isolate b --reason 'sshd was replaced'
  stead remove b && stead admit b=10.0.0.2 --out ./b-new     # after it was set up anew")]
    Isolate {
        /// Which node
        node: Name,
        /// Why, for whoever reads the incident
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Do not wait until the others have cut it off
        #[arg(long)]
        no_wait: bool,
    },
    /// Say that a node's SSH host key was changed by you (admins)
    #[command(after_long_help = "\
The servers look at one another's SSH host key and keep the first one that they see. Another one may mean that somebody
else has that server: until you accept it, the node may neither lead nor serve. Compare before you do, on the server's
console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub

Examples:
  stead accept b                          # shows both keys, and asks
  stead accept b --host-key SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU")]
    Accept {
        /// Which node
        node: Name,
        /// The key that it has; without it, the one that the others see
        #[arg(long, value_name = "FINGERPRINT")]
        host_key: Option<HostKey>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Take a server back that had been cut off: as a new node under its name, on probation (admins)
    #[command(after_long_help = "\
For a server that was set up anew after somebody else had it: never for one that was only cleaned. It gets a new key and
a new id; what the old ones signed counts no more. On probation it follows, is watched, holds no endpoint and has no
vote; when the time is over by the clocks of most of the others, it becomes by itself what --role says.
An admin's `stead undrain` ends it sooner. It can be run again at any time, like `stead admit`.

Examples:
  stead readmit b=10.0.0.2 --out ./b-new
  stead readmit b=10.0.0.2 --out ./b-new --probation 7d
  stead readmit w=10.0.0.5 --role witness --out ./w-new")]
    Readmit {
        /// Which node, and where its files go
        #[command(flatten)]
        admit: AdmitArgs,
        /// How long it has to prove itself
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = probation)]
        probation: Duration,
    },
    /// Give a node a vote, or take it; or make it a witness (admins)
    #[command(after_long_help = "\
Examples:
  stead role d voter       # it votes once it is up and caught up for as long as the charter says
  stead role d learner     # it follows, and may hold endpoints")]
    Role {
        /// Which node
        node: Name,
        /// What it shall be
        #[arg(value_enum)]
        role: NodeRole,
        /// Do not wait until it has lost its vote
        #[arg(long)]
        no_wait: bool,
    },
    /// Replace the site by what a file says (admins)
    #[command(after_long_help = "\
Examples:
  stead apply site.toml --check     # only show what would change
  stead apply site.toml
  stead apply site.toml --base 7    # refuse if somebody has applied anything after version 7

An endpoint with `exec = [\"/usr/local/bin/move\"]` is moved by that command, run on its node as
`move claim|release ENDPOINT ADDRESS EPOCH` within 10 s. No lease gate stops it: a release may run late, at the
same time as the next node's claim, or never, since a dead machine runs nothing. So the command has to be safe
to repeat, and the provider has to refuse an EPOCH lower than the highest that it has seen; an epoch is
PLAN.RANK, two numbers, the PLAN compared first.")]
    Apply(ApplyArgs),
    /// Show the site and its earlier versions, or take one of them up again
    #[command(
        subcommand,
        after_long_help = "\
Examples:
  stead site show > site.toml
  stead site history"
    )]
    Site(SiteCommand),
    /// Show the mesh live
    #[command(after_long_help = "\
Examples:
  stead watch
  stead watch --json | jq -c 'select(.fact | startswith(\"endpoint.\"))'")]
    Watch {
        /// How often to ask
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
        interval: Duration,
    },
    /// Print the completions of a shell
    #[command(
        hide = true,
        after_long_help = "\
Examples:
  stead completions bash > /etc/bash_completion.d/stead
  stead completions fish > ~/.config/fish/completions/stead.fish"
    )]
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write the manual pages
    #[command(
        hide = true,
        after_long_help = "\
Examples:
  stead man /usr/local/share/man/man1
  stead man . && man ./stead.1"
    )]
    Man {
        /// Where to
        directory: PathBuf,
    },
}

/// `agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// The agent's agent.toml
    #[arg(long, value_name = "FILE", default_value = "/etc/stead/agent.toml")]
    pub config: PathBuf,
    /// This is the node's very first start: make its store
    ///
    /// Without it an empty data directory is refused, because a node that lost its store must never vote again
    /// under its old name.
    #[arg(long)]
    pub create: bool,
    /// Only read the configuration and say what is wrong with it
    #[arg(long)]
    pub check: bool,
}

/// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write everything; must not exist yet
    pub out_dir: PathBuf,
    /// A node that votes and may hold endpoints
    #[arg(long = "node", value_name = "NAME=ADDRESS", value_parser = new_node, required = true)]
    pub nodes: Vec<(Name, String)>,
    /// A node that votes and never holds an endpoint
    #[arg(long = "witness", value_name = "NAME=ADDRESS", value_parser = new_node)]
    pub witnesses: Vec<(Name, String)>,
    /// A node that may hold endpoints and has no vote
    #[arg(long = "learner", value_name = "NAME=ADDRESS", value_parser = new_node)]
    pub learners: Vec<(Name, String)>,
    /// The first site; without it, apply one later
    #[arg(long, value_name = "FILE")]
    pub site: Option<PathBuf>,
    /// The interface that carries the endpoints [default: the one of each server's default route]
    #[arg(long, value_name = "INTERFACE")]
    pub uplink: Option<String>,
    /// An operator and his role (admin, caretaker or viewer) [default role: admin]
    #[arg(long = "operator", value_name = "NAME[=ROLE]", value_parser = new_operator, default_value = "operator")]
    pub operators: Vec<(Name, OperatorRole)>,
}

impl InitArgs {
    /// All nodes, voters first.
    pub fn all(&self) -> impl Iterator<Item = (&Name, Role, &str)> {
        let of = |nodes, role| {
            let nodes: &Vec<(Name, String)> = nodes;
            nodes.iter().map(move |(name, address)| (name, role, address.as_str()))
        };
        of(&self.nodes, Role::Voter)
            .chain(of(&self.witnesses, Role::Witness))
            .chain(of(&self.learners, Role::Learner))
    }
}

/// `admit`.
#[derive(Debug, Args)]
pub struct AdmitArgs {
    /// What people call it, and where the others find it
    #[arg(value_name = "NAME=ADDRESS", value_parser = new_node)]
    pub node: (Name, String),
    /// What it is there for
    #[arg(long, value_enum, default_value = "voter")]
    pub role: NodeRole,
    /// Where to write its key and its files
    #[arg(long, value_name = "DIR", required_unless_present = "key")]
    pub out: Option<PathBuf>,
    /// Its public key, if it has a key already; then none is made
    #[arg(long, value_name = "PUBLICKEY")]
    pub key: Option<PublicKey>,
    /// The interface that carries the endpoints [default: the one of the server's default route]
    #[arg(long, value_name = "INTERFACE")]
    pub uplink: Option<String>,
}

/// What a node is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NodeRole {
    /// Votes, and may hold endpoints.
    Voter,
    /// Votes, and never holds an endpoint.
    Witness,
    /// Follows, and may hold endpoints.
    Learner,
}

impl From<NodeRole> for Role {
    fn from(role: NodeRole) -> Self {
        match role {
            NodeRole::Voter => Self::Voter,
            NodeRole::Witness => Self::Witness,
            NodeRole::Learner => Self::Learner,
        }
    }
}

/// `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The site
    pub file: PathBuf,
    /// Change nothing: read the file, and show the difference to the newest version
    #[arg(long)]
    pub check: bool,
    /// The version that the file was written against [default: the newest that the mesh agrees on]
    #[arg(long, value_name = "VERSION")]
    pub base: Option<u64>,
}

/// `site`.
#[derive(Debug, Subcommand)]
pub enum SiteCommand {
    /// Print a version of the site, the newest without a number
    #[command(after_long_help = "\
Examples:
  stead site show > site.toml
  stead site show 3")]
    Show {
        /// Which version
        version: Option<u64>,
    },
    /// List the versions that are kept
    #[command(after_long_help = "\
Examples:
  stead site history
  stead site history --json | jq '.versions[0].text' -r")]
    History,
    /// Make an earlier version the newest again (admins)
    #[command(after_long_help = "\
Examples:
  stead site rollback        # to the version before the newest
  stead site rollback 3")]
    Rollback {
        /// Which version [default: the one before the newest]
        version: Option<u64>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_two_examples_in_its_help() {
        fn visit(command: &clap::Command) {
            for sub in command.get_subcommands() {
                let help = sub.get_after_long_help().map(ToString::to_string).unwrap_or_default();
                let examples = help.lines().filter(|line| line.trim_start().starts_with("stead ")).count();
                assert!(examples >= 2, "{}", sub.get_name());
                visit(sub);
            }
        }
        visit(&Cli::command());
    }
}

/// What `stead demo` shows.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many servers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=7))]
    pub nodes: u8,
    /// Play on without waiting for Enter
    #[arg(long)]
    pub auto: bool,
    /// Keep the mesh running at the end, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Draw the run into this SVG file
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
}
