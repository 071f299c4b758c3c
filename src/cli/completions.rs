//! `fedcircuit completions <shell>`.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, print};
use crate::{Error, Result};

/// Flags of `fedcircuit completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples, for the shells as most systems set them up:
  fedcircuit completions bash > ~/.local/share/bash-completion/completions/fedcircuit
  fedcircuit completions zsh > ~/.zfunc/_fedcircuit    with fpath+=~/.zfunc before compinit in ~/.zshrc
  fedcircuit completions fish > ~/.config/fish/completions/fedcircuit.fish")]
pub struct CompletionsArgs {
    /// The shell to write for
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the shell's script.
pub fn execute(args: CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "fedcircuit", &mut script);
    let script = String::from_utf8(script)
        .map_err(|e| Error::device(format!("the script is not text: {e}"), "choose another shell"))?;
    print(&script)
}
