//! Files that hold as much as their size can of what costs a parser most.

use super::bounded;

/// `head`, as many parts as fit a megabyte, `tail`.
fn fill(head: &str, part: impl Fn(usize) -> String, tail: &str) -> Vec<u8> {
    let mut text = head.to_string();
    for i in 0.. {
        if text.len() >= 1 << 20 {
            break;
        }
        text += &part(i);
    }
    (text + tail).into_bytes()
}

fn same(part: &'static str) -> impl Fn(usize) -> String {
    move |_| part.to_string()
}

#[test]
fn experiments() {
    for (head, part, tail) in [
        ("a=[", "1,", "]"),
        ("", "[[compare]]\nname=\"a\"\nset={}\n", ""),
        ("", "[", ""),
        ("a", ".a", "=1"),
        ("a=", "{a=", "1"),
    ] {
        // One that is too long, and one that is read.
        let text = fill(head, same(part), tail);
        assert!(!bounded("experiment", &text) && !bounded("override", &text));
        bounded("experiment", &text[..100_000]);
        bounded("override", &[&text[..100_000], tail.as_bytes()].concat());
        bounded("report experiment", &text);
    }
    let keys = fill("[sweep]\n", |i| format!("a.b{i}=[1]\n"), "");
    bounded("experiment", &keys[..100_000]);
    bounded("report experiment", &keys[8..]);
    bounded("report environment", &[0xff; 1 << 20]);
}

#[test]
fn tensors() {
    // The length of the header, of which there is more than any file of ours has.
    let head = "\0\0\u{10}\0\0\0\0\0{";
    let tensors = fill(head, |i| format!(r#""{i}":{{"dtype":"F32","shape":[],"data_offsets":[0,0]}},"#), "");
    assert!(!bounded("weights", &tensors) && !bounded("checkpoint", &tensors));
}

#[test]
fn lines_of_json() {
    let global = r#"{"round":1,"global":{"#;
    for text in [
        fill(&format!(r#"{global}"per_class_accuracy":["#), same("1,"), "1]}}"),
        fill("", |i| format!("{{\"round\":{i},\"global\":{{}}}}\n"), ""),
        fill(&format!(r#"{global}}},"clients":["#), same("{},"), "{}]}"),
        fill(&format!(r#"{global}}},"sparsity":{{"#), |i| format!("\"{i}\":1,"), "\"a\":1}}"),
        fill(&format!(r#"{global}}},"seconds":{{"#), |i| format!("\"{i}\":1,"), "\"total\":1}}"),
    ] {
        assert!(bounded("report rounds", &text));
    }
    assert!(!bounded("history", &fill(r#"{"figures":{"round":1,"seconds":1,"each":["#, same("{},"), "")));
}

#[test]
fn circuits() {
    let client = r#"{"round_1":{"clients_global_model":{},"clients_local_model":{"client_0":{"#;
    let nodes = format!(r#"{client}"a":{{"active_nodes":{{"#);
    let edges = format!(r#"{nodes}}},"connectivity":{{"":{{"#);
    assert!(bounded("report circuits", &fill(&format!(r#"{nodes}"conv1":["#), same("1,"), "1]}}}}}}")));
    assert!(bounded("report circuits", &fill(&edges, |i| format!("\"{i}\":[],"), "\"1\":[]}}}}}}}")));
    assert!(!bounded("report circuits", &fill(&nodes, same("\"\":[],"), "\"\":[]}}}}}}")));
    let classes = fill(client, |i| format!("\"{i}\":{{\"active_nodes\":{{}}}},"), "\"a\":{\"active_nodes\":{}}}}}}");
    assert!(bounded("report circuits", &classes));
}

/// The shortest rows under a run's own columns.
#[test]
fn tables() {
    let head = "round,model,client,class,size_conv1,size_conv2,sufficiency,necessity,cross,false_positive,diagnosis,accuracy,\
                damage,random_sufficiency,random_percentile,random_p,ceiling\n";
    assert!(bounded("report circuits table", &fill(head, same("1,,0,0,0,0,,,,,,,,,,,\n"), "")));
    let head = "round,control,client,class,size_conv1,accuracy,sufficiency,false_positive,iou,chance\n";
    assert!(bounded("report controls", &fill(head, same("1,a,0,0,0,,,,,\n"), "")));
    let head = "round,model,client,class,share,accuracy\n";
    assert!(bounded("report curve", &fill(head, same("1,,0,0,,\n"), "")));
    let head = "round,comparison,level,layer,client_a,class_a,client_b,class_b,size_a,size_b,iou,chance\n";
    let pair = |i| format!("1,local_global,node,all,{i},0,{i},0,0,0,,\n");
    assert!(bounded("report overlap", &fill(head, pair, "")));
    let head = "round,comparison,level,layer,class,pairs,undefined,iou,chance\n";
    assert!(bounded("report overlap means", &fill(head, |i| format!("{i},,node,,,,,,\n"), "")));
    assert!(bounded("report analysis", &fill("a,b\n", same(",\n"), "")));
    assert!(bounded("report partition", &fill("client,class,examples\n", same("0,0,1\n"), "")));
    for one_line in [fill("", same(","), "\n"), fill("", |i| format!("{i},"), "\n"), fill("\"", same("\n"), "\"\n")] {
        bounded("report partition", &one_line);
    }
}
