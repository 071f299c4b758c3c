//! Writes the sound inputs of every parser to `corpus/<target>/`, from which the fuzzer starts.

use std::fs;
use std::path::Path;

use fedcircuit_fuzz::{TARGETS, parsers_of};

fn main() -> std::io::Result<()> {
    for (target, _) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&folder)?;
        let parsers: Vec<_> = parsers_of(target).collect();
        for (i, parser) in parsers.iter().enumerate() {
            for (j, seed) in (parser.seeds)().into_iter().enumerate() {
                let which = if parsers.len() > 1 { &[i as u8][..] } else { &[] };
                fs::write(folder.join(format!("{}-{j}", parser.name.replace(' ', "-"))), [which, &seed].concat())?;
            }
        }
    }
    Ok(())
}
