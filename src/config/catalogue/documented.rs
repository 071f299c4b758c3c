//! The types of the configuration as their source documents them.

/// Where they are.
const SOURCES: [&str; 5] = [
    include_str!("../mod.rs"),
    include_str!("../analysis.rs"),
    include_str!("../circuits.rs"),
    include_str!("../cohort.rs"),
    include_str!("../model.rs"),
];

/// A struct or an enum.
#[derive(Debug, Default)]
pub(super) struct Documented {
    name: String,
    doc: String,
    fields: Vec<Field>,
    variants: Vec<Variant>,
}

/// A field of it, or of a variant of it.
#[derive(Debug)]
struct Field {
    name: String,
    kind: String,
    doc: String,
    flat: bool,
    /// The variant that has it, as [`plain`] has its name; empty in a struct.
    of: String,
}

/// A variant of it.
#[derive(Debug)]
struct Variant {
    /// As [`plain`] has it.
    name: String,
    doc: String,
    /// The type that it holds; empty where it holds none.
    holds: String,
}

/// A name in which the code and the file agree: `SimpleCnn` is `simple-cnn`.
fn plain(name: &str) -> String {
    name.to_lowercase().replace(['-', '_'], "")
}

/// A type without what says that there may be several or none.
fn bare(kind: &str) -> String {
    let kind = kind.trim_end_matches([',', ')']).trim_start_matches("Option<").trim_start_matches("Vec<");
    kind.trim_end_matches('>').into()
}

/// All of them, from their source as rustfmt leaves it.
pub(super) fn documented() -> Vec<Documented> {
    let mut types: Vec<Documented> = Vec::new();
    let (mut doc, mut flat, mut inside) = (String::new(), false, false);
    for line in SOURCES.iter().flat_map(|source| source.lines()) {
        // What follows a type is documented too, such as its functions.
        inside &= line != "}";
        let text = line.trim();
        if let Some(more) = text.strip_prefix("///") {
            doc = format!("{doc}{more}");
            continue;
        }
        if text.starts_with('#') {
            flat |= text.contains("flatten");
            continue;
        }
        let said = std::mem::take(&mut doc).trim().to_string();
        let declared = text.strip_prefix("pub struct ").or(text.strip_prefix("pub enum "));
        let word = text.trim_start_matches("pub ").split([':', ' ', ',', '(']).next().unwrap_or_default();
        if let Some(name) = declared.and_then(|rest| rest.strip_suffix(" {")) {
            types.push(Documented { name: name.into(), doc: said, ..Documented::default() });
            inside = true;
        } else if let Some(of) = types.last_mut().filter(|_| inside && !said.is_empty()) {
            let holds = text.split_once('(').map(|(_, held)| bare(held)).unwrap_or_default();
            match text.split_once(": ") {
                Some((_, kind)) => {
                    let variant = of.variants.last().map(|variant| variant.name.clone()).unwrap_or_default();
                    of.fields.push(Field { name: word.into(), kind: bare(kind), doc: said, flat, of: variant });
                }
                None => of.variants.push(Variant { name: plain(word), doc: said, holds }),
            }
        }
        flat = false;
    }
    types
}

fn find<'t>(types: &'t [Documented], name: &str) -> Option<&'t Documented> {
    types.iter().find(|of| of.name == name)
}

/// What the documentation of the type `kind` says of `key`, in a table that says of itself that it is a `tag`.
pub(super) fn meaning(types: &[Documented], kind: &str, tag: &str, key: &str) -> Option<String> {
    let of = find(types, kind)?;
    let own = |field: &&Field| field.name == key && (field.of.is_empty() || field.of == plain(tag));
    let found = of.fields.iter().find(own).map(|field| field.doc.clone());
    found
        .or_else(|| {
            // What is flattened into the table: keys of its own, one for each variant, or the name of the variant.
            of.fields.iter().filter(|field| field.flat).find_map(|field| {
                let inner = find(types, &field.kind);
                let variant =
                    inner.is_some_and(|inner| inner.variants.iter().any(|variant| variant.name == plain(key)));
                let named = variant || field.name.starts_with(key);
                meaning(types, &field.kind, tag, key).or_else(|| named.then(|| field.doc.clone()))
            })
        })
        .or_else(|| (key == "kind").then(|| of.doc.clone()))
}

/// The names that a key accepts, with what the type that they stand for says of each.
pub(super) fn choices(types: &[Documented], kind: &str, key: &str, accepted: &str) -> Vec<(String, String)> {
    let Some(of) = find(types, kind) else { return Vec::new() };
    let field = of.fields.iter().find(|field| field.name == key).and_then(|field| find(types, &field.kind));
    // A key that names a variant of what is flattened into the table has what that holds.
    let held = || {
        let flat = of.fields.iter().filter(|field| field.flat).filter_map(|field| find(types, &field.kind));
        let mut variants = flat.flat_map(|inner| &inner.variants);
        variants.find(|variant| variant.name == plain(key)).and_then(|variant| find(types, &variant.holds))
    };
    let Some(of) = field.or_else(held).or((key == "kind").then_some(of)) else { return Vec::new() };
    let one = |name: &str| {
        let variant = of.variants.iter().find(|variant| variant.name == plain(name))?;
        Some((name.to_string(), variant.doc.clone()))
    };
    // Names of something else, as in an example, are none of the type's.
    accepted.split('"').skip(1).step_by(2).map(one).collect::<Option<_>>().unwrap_or_default()
}
