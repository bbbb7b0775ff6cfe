//! Tells cargo that the embedded dashboard is a part of the service: a new build of it is compiled in.

fn main() {
    println!("cargo::rerun-if-changed=dashboards/web/dist");
}
