//! `fedcircuit man [DIR]`.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::{Cli, check_folder, print};
use crate::files::replace_whole;
use crate::{Error, Result};

/// Flags of `fedcircuit man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fedcircuit man | man -l -                    reads the page
  fedcircuit man ~/.local/share/man/man1       installs all pages: man fedcircuit-run")]
pub struct ManArgs {
    /// Where the pages of the program and its subcommands go, such as ~/.local/share/man/man1. Without it, the program's
    /// own is printed
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// Prints the program's page, or writes all of them.
pub fn execute(args: ManArgs) -> Result<()> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let Some(folder) = args.folder else {
        let text = page(root)?;
        return print(&String::from_utf8_lossy(&text));
    };
    check_folder("man", &folder)?;
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let mut pages = Vec::new();
    collect(root, &mut pages);
    for (name, command) in pages {
        let path = folder.join(name);
        replace_whole(&path, &page(command)?)?;
        print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

/// The commands with the names of their pages: `fedcircuit-run.1`.
fn collect(command: Command, pages: &mut Vec<(String, Command)>) {
    let below: Vec<Command> = command.get_subcommands().cloned().collect();
    pages.push((Man::new(command.clone()).get_filename(), command));
    below.into_iter().for_each(|command| collect(command, pages));
}

/// A page as roff. As `clap_mangen` has it, but for the end of the help: that is examples, whose lines are kept apart.
fn page(command: Command) -> Result<Vec<u8>> {
    let help = command.get_after_help().map(ToString::to_string);
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command);
    let mut page = Vec::new();
    let mut render = || -> std::io::Result<()> {
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if has_subcommands {
            man.render_subcommands_section(&mut page)?;
        }
        if let Some(help) = &help {
            let mut examples = Roff::new();
            examples.control("SH", ["EXAMPLES"]).control("nf", []);
            let lines = help.lines().filter(|line| *line != "Examples:");
            examples.text(lines.flat_map(|line| [roman(line), roman("\n")]).collect::<Vec<_>>());
            examples.control("fi", []);
            examples.to_writer(&mut page)?;
        }
        Ok(())
    };
    render().map_err(|e| Error::device(format!("the page cannot be written: {e}"), "read --help instead"))?;
    Ok(page)
}
