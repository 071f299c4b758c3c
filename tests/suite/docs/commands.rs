//! What a document says to type, and which files it names.

/// A command in a block of `console`.
#[derive(Debug, PartialEq)]
pub struct Block {
    /// Where it stands, counted from 1.
    pub line: usize,
    /// Without the prompt and the comment, and as the program that it builds.
    pub command: String,
}

/// The commands of a document: lines that begin with `$ ` in blocks of `console`.
pub fn blocks(text: &str) -> Vec<Block> {
    let (mut found, mut inside) = (Vec::new(), false);
    for (i, line) in text.lines().enumerate() {
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            inside = !inside && fence.trim() == "console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            found.push(Block { line: i + 1, command: without_comment(command).trim().to_string() });
        }
    }
    found
}

fn without_comment(command: &str) -> &str {
    let mut quote = None;
    for (i, c) in command.char_indices() {
        match (quote, c) {
            (None, '#') if command[..i].ends_with(' ') => return &command[..i],
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    command
}

/// Commands joined with `&&`, one by one; what is built and run at once is the program.
pub fn chained(command: &str) -> Vec<String> {
    let program = |part: &str| part.trim().replacen("cargo run --release -- ", "fedcircuit ", 1);
    command.split(" && ").map(program).collect()
}

/// The words of a command, quotes taken off.
pub fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in command.chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Of the options in `more`, those that are not in `words`: `--rounds 3` there keeps `--set rounds=2` out, too.
pub fn without_repeated(words: &[String], more: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    for option in more.chunks(2) {
        let as_flag = match option {
            [set, value] if set == "--set" => format!("--{}", value.split('=').next().unwrap_or(value)),
            _ => option[0].clone(),
        };
        if !words.contains(&as_flag) {
            kept.extend_from_slice(option);
        }
    }
    kept
}

/// Targets of links to files, with their lines.
pub fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(i, line)| {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let files = targets.filter(|to| !to.starts_with("http") && !to.starts_with('#'));
        files.map(move |to| (i + 1, to.split('#').next().unwrap_or(to)))
    })
}

/// Files of the repository between backticks, with their lines. `NAME` stands for what is to be written.
pub fn paths(text: &str) -> impl Iterator<Item = (usize, &str)> {
    const PLACES: [&str; 6] = ["src/", "shaders/", "tests/", "benches/", "assets/", "docs/"];
    text.lines().enumerate().flat_map(|(i, line)| {
        let code = line.split('`').skip(1).step_by(2);
        let files = code.filter(|code| PLACES.iter().any(|place| code.starts_with(place)));
        files.filter(|code| !code.contains([' ', '*', '{']) && !code.contains("NAME")).map(move |code| (i + 1, code))
    })
}

#[test]
fn commands_are_read_as_a_shell_would() {
    let text = "```console\n$ cargo run --release -- run a   # runs it\n12 $ no\n$ b --set 'x=\"#1\"' && cat 'a b'\n```\n$ not this\n\
        ```toml\n$ nor this\n```\n";
    let found = blocks(text);
    let lines: Vec<(usize, &str)> = found.iter().map(|block| (block.line, block.command.as_str())).collect();
    assert_eq!(lines, [(2, "cargo run --release -- run a"), (4, "b --set 'x=\"#1\"' && cat 'a b'")]);
    assert_eq!(chained(&found[0].command), ["fedcircuit run a"]);
    let parts: Vec<Vec<String>> = chained(&found[1].command).iter().map(|part| words(part)).collect();
    assert_eq!(parts, [vec!["b", "--set", "x=\"#1\""], vec!["cat", "a b"]]);
}

#[test]
fn options_that_a_document_gives_itself_are_not_given_twice() {
    let (own, more) =
        (words("run a --rounds 3 --device gpu --set b=1"), words("--device cpu --set rounds=2 --set c=1"));
    assert_eq!(without_repeated(&own, &more), ["--set", "c=1"]);
}

#[test]
fn links_and_paths_are_found() {
    let text = "See [a](docs/a.md#b), [c](#d), [e](https://f) and `src/g.rs`,\n`src/NAME.rs`, `h`, `benches/*.md`.";
    assert_eq!(links(text).collect::<Vec<_>>(), [(1, "docs/a.md")]);
    assert_eq!(paths(text).collect::<Vec<_>>(), [(1, "src/g.rs")]);
}
