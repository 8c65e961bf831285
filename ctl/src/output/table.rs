//! Layout of tables, pure: Go's tabwriter as calicoctl sets it up, and the boxes of its `node` and `ipam` commands.

/// Least width of a column, and the blanks after its widest cell (calico-datamodel 6.4).
const MIN_WIDTH: usize = 5;
const PADDING: usize = 3;

/// Rows of equal length, left-aligned; the last column is padded too, and an empty line follows.
pub(crate) fn plain(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let widest = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        (widest.unwrap_or(0) + PADDING).max(MIN_WIDTH)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:<width$}"));
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

/// A box of ASCII lines: headers centred, numbers to the right, everything else to the left.
pub(crate) fn boxed(headers: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headers[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headers.len()).map(width).collect();
    let rule: String =
        widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect::<String>() + "+\n";
    let mut text = rule.clone();
    text.push_str(&line(headers.iter().zip(&widths).map(|(header, width)| centred(header, *width))));
    text.push_str(&rule);
    for row in rows {
        text.push_str(&line(row.iter().zip(&widths).map(|(cell, width)| aligned(cell, *width))));
    }
    text.push_str(&rule);
    text
}

fn line(cells: impl Iterator<Item = String>) -> String {
    cells.map(|cell| format!("| {cell} ")).collect::<String>() + "|\n"
}

/// An odd blank goes to the right.
fn centred(text: &str, width: usize) -> String {
    format!("{text:^width$}")
}

fn aligned(text: &str, width: usize) -> String {
    if is_number(text) { format!("{text:>width$}") } else { format!("{text:<width$}") }
}

/// Digits, at most one point among them.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    digits(whole) && digits(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect()
    }

    #[test]
    fn plain_tables_are_laid_out_like_calicoctls() {
        let text = plain(&rows(&[&["NAME", "A"], &["default-ipv4-ippool", ""]]));
        assert_eq!(text, "NAME                  A    \ndefault-ipv4-ippool        \n\n");
    }

    #[test]
    fn boxes_are_laid_out_like_calicoctls() {
        // From the documentation of `calicoctl node status`.
        let text = boxed(
            &["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"],
            &rows(&[&["172.17.8.102", "node-to-node mesh", "up", "23:30:04", "Established"]]),
        );
        let expected = "\
+--------------+-------------------+-------+----------+-------------+
| PEER ADDRESS |     PEER TYPE     | STATE |  SINCE   |    INFO     |
+--------------+-------------------+-------+----------+-------------+
| 172.17.8.102 | node-to-node mesh | up    | 23:30:04 | Established |
+--------------+-------------------+-------+----------+-------------+
";
        assert_eq!(text, expected);
    }

    #[test]
    fn numbers_stand_to_the_right() {
        let text = boxed(&["IPS TOTAL"], &rows(&[&["64"], &["5 (0%)"]]));
        assert!(text.contains("|        64 |") && text.contains("| 5 (0%)    |"), "{text}");
    }
}
