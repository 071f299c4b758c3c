//! What shells and readers of manuals are given.

use std::fs;

use super::Desk;

#[test]
#[cfg(unix)]
fn bash_completes_subcommands_options_and_their_values() {
    let desk = Desk::new();
    let script = desk.fedcircuit(&["completions", "bash"]);
    assert_eq!(script.code, Some(0), "{script:?}");
    fs::write(desk.path("complete.bash"), script.out).unwrap();
    let completed = |words: &str, at: usize| {
        let words: Vec<&str> = words.split(' ').collect();
        let line = format!(
            "source complete.bash; COMP_WORDS=({}); COMP_CWORD={at}; _fedcircuit fedcircuit '{}' '{}'; echo \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words[at],
            words[at - 1],
        );
        let output = desk.command("bash").args(["--norc", "-c", &line]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    assert_eq!(completed("fedcircuit sw", 1), "sweep");
    assert_eq!(completed("fedcircuit run --resu", 2), "--resume");
    assert_eq!(completed("fedcircuit completions f", 2), "fish");
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        let script = desk.fedcircuit(&["completions", shell]);
        assert!(script.code == Some(0) && script.out.contains("sweep"), "{script:?}");
    }
    let refused = desk.fedcircuit(&["completions", "tcsh"]);
    assert!(refused.code == Some(2) && refused.err.contains("bash"), "{refused:?}");
}

#[test]
fn the_manual_has_a_page_for_every_subcommand_with_its_examples_line_by_line() {
    let desk = Desk::new();
    let page = desk.fedcircuit(&["man"]);
    assert!(page.code == Some(0) && page.out.contains(".TH fedcircuit 1"), "{page:?}");
    assert!(page.out.contains("fedcircuit run quickstart"), "{page:?}");
    let written = desk.fedcircuit(&["man", "pages/man1"]);
    assert_eq!(written.code, Some(0), "{written:?}");
    let written = written.out.replace(std::path::MAIN_SEPARATOR, "/");
    let pages: Vec<&str> = written.lines().collect();
    for name in ["fedcircuit", "fedcircuit-run", "fedcircuit-presets-show"] {
        let path = format!("pages/man1/{name}.1");
        assert!(pages.contains(&path.as_str()), "{pages:?}");
        let text = fs::read_to_string(desk.path(&path)).unwrap();
        assert!(text.contains(".SH EXAMPLES\n.nf\n"), "{text}");
    }
    let run = fs::read_to_string(desk.path("pages/man1/fedcircuit-run.1")).unwrap();
    assert!(run.contains("\\-\\-rounds") && run.contains("\n  fedcircuit run quickstart "), "{run}");
    // Again, over the pages of an older version.
    assert_eq!(desk.fedcircuit(&["man", "pages/man1"]).code, Some(0));
}
