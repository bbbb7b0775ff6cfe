//! Texts that others wrote, made fit to be shown.

/// One line without control characters, nor such as turn the direction of writing, of at most so many bytes.
/// A line break with the white space around it becomes one space.
pub(crate) fn clean(text: &str, most: usize) -> String {
    let mut cleaned = String::with_capacity(text.len().min(most));
    let (mut spaces, mut broken) = (0, false);
    for character in text.chars().filter(|character| !is_format(*character)) {
        if character == ' ' || character.is_control() {
            spaces += 1;
            broken |= character != ' ';
            continue;
        }
        let gap = match (cleaned.is_empty(), broken) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => spaces,
        };
        if cleaned.len() + gap + character.len_utf8() > most {
            break;
        }
        cleaned.extend(std::iter::repeat_n(' ', gap));
        cleaned.push(character);
        (spaces, broken) = (0, false);
    }
    cleaned
}

/// Zero-width and bidirectional marks: they are not seen, and change what is.
fn is_format(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{ad}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_taken_out() {
        for (text, cleaned) in [
            ("财政局 账务系统", "财政局 账务系统"),
            ("a\u{7}b\u{1b}[31mred", "a b [31mred"),
            ("  two\n\tlines \r\n", "two lines"),
            ("\u{202e}gnp.exe\u{202c}", "gnp.exe"),
            ("/a  b", "/a  b"),
            ("zero\u{200b}width\u{feff}", "zerowidth"),
            ("c1\u{85}\u{9b}x", "c1 x"),
            ("\u{0}", ""),
        ] {
            assert_eq!(clean(text, 100), cleaned);
        }
        assert_eq!(clean("网络", 5), "网", "cut between characters");
        assert_eq!(clean("ab cd", 3), "ab");
    }
}
