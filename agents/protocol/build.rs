//! Compiles the wire's `.proto` without needing `protoc`, and lists its fields for a test.
use std::{env, fmt::Write, fs, path::Path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["tongtu/agent/v1/agent.proto"], ["proto"])?;

    let mut fields = String::new();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                writeln!(
                    fields,
                    "rpc {}.{} {} -> {}",
                    service.name(),
                    method.name(),
                    last(method.input_type()),
                    last(method.output_type())
                )?;
            }
        }
        let mut messages: Vec<_> = file.message_type.iter().collect();
        while let Some(message) = messages.pop() {
            messages.extend(&message.nested_type);
            for field in &message.field {
                let label = if field.label() as i32 == 3 { "repeated " } else { "" };
                let kind = match field.type_name.as_deref() {
                    Some(name) => last(name).to_owned(),
                    None => field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase(),
                };
                writeln!(fields, "field {}.{} {label}{kind} = {}", message.name(), field.name(), field.number())?;
            }
        }
    }
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&out).join("fields.txt"), fields)?;

    tonic_prost_build::configure()
        .build_server(env::var_os("CARGO_FEATURE_SERVER").is_some())
        .bytes(".")
        .codec_path("crate::wire::Codec")
        // Maps in one order, so that a checksum over an encoded message can be made again.
        .btree_map(".")
        .compile_fds(files)?;
    Ok(())
}

/// The last part of a qualified name.
fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
