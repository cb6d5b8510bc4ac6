use std::fmt;

/// A token of the expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A number as written, and its value.
    Number(String, f64),
    /// A number that an `f64` can't represent, and the reason.
    BadNumber(String, &'static str),
    /// A name or a reserved word.
    Name(String),
    /// An operator, parenthesis or separator: `+ - * / ^ ( ) , ; =`.
    Symbol(char),
    /// A character that can't occur in an expression.
    Unknown(char),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(text, _) | Self::BadNumber(text, _) | Self::Name(text) => {
                f.write_str(&super::error::shown(text))
            }
            Self::Symbol(symbol) | Self::Unknown(symbol) => write!(f, "{symbol}"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// The tokens of `characters`, each with its column. The last one is `End`.
pub(super) fn tokens(characters: &[char]) -> Vec<(Token, usize)> {
    let mut tokens = Vec::new();
    let mut place = 0;
    while let Some(&first) = characters.get(place) {
        let rest = &characters[place..];
        let (token, length) = if starts_number(rest) {
            number(rest)
        } else if starts_name(first) {
            let length = run(rest, continues_name);
            (Token::Name(rest[..length].iter().collect()), length)
        } else {
            (symbol(first), 1)
        };
        if !first.is_whitespace() {
            tokens.push((token, place + 1));
        }
        place += length;
    }
    tokens.push((Token::End, characters.len() + 1));
    tokens
}

/// Whether `word` is a valid name: a letter or `_`, then letters, digits and `_`.
pub(super) fn is_name(word: &str) -> bool {
    word.starts_with(starts_name) && word.chars().all(continues_name)
}

fn starts_name(character: char) -> bool {
    character.is_alphabetic() || character == '_'
}

fn continues_name(character: char) -> bool {
    starts_name(character) || character.is_ascii_digit()
}

fn symbol(character: char) -> Token {
    match character {
        '+' | '-' | '*' | '/' | '^' | '(' | ')' | ',' | ';' | '=' => Token::Symbol(character),
        '·' | '×' => Token::Symbol('*'),
        '−' => Token::Symbol('-'),
        other => Token::Unknown(other),
    }
}

/// The number of leading characters that match `predicate`.
fn run(characters: &[char], predicate: impl Fn(char) -> bool) -> usize {
    characters.iter().take_while(|&&character| predicate(character)).count()
}

fn digits(characters: &[char]) -> usize {
    run(characters, |character| character.is_ascii_digit())
}

fn starts_number(characters: &[char]) -> bool {
    let fraction = characters.strip_prefix(&['.']).unwrap_or(characters);
    digits(fraction) > 0
}

/// `digits [. digits] [e [+|-] digits]`, where one of the first two `digits` may be empty.
fn number(characters: &[char]) -> (Token, usize) {
    let mut length = digits(characters);
    if characters.get(length) == Some(&'.') {
        length += 1 + digits(&characters[length + 1..]);
    }
    let mantissa = &characters[..length];
    let has_value = mantissa.iter().any(|&digit| ('1'..='9').contains(&digit));
    if let Some(exponent) =
        characters[length..].strip_prefix(&['e']).or(characters[length..].strip_prefix(&['E']))
    {
        let sign = exponent.first().is_some_and(|&sign| matches!(sign, '+' | '-' | '−'));
        let digits = digits(&exponent[usize::from(sign)..]);
        if digits > 0 {
            length += 1 + usize::from(sign) + digits;
        }
    }
    let text: String = characters[..length].iter().map(|&c| if c == '−' { '-' } else { c }).collect();
    let token = match text.parse() {
        Ok(value) if f64::is_infinite(value) => Token::BadNumber(text, "is larger than any f64"),
        Ok(0.0) if has_value => Token::BadNumber(text, "is nearer to 0 than any f64"),
        Ok(value) => Token::Number(text, value),
        Err(_) => Token::BadNumber(text, "is not a number"),
    };
    (token, length)
}
