mod random;
fn main() {}
