//! Valkey as it is: a plain connection, for what it says of itself and for the opponent's pipelined questions.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// Requests that are sent before their answers are read: enough to keep both sides busy, too few to block both.
const WINDOW: usize = 10_000;

/// A blocking connection; use it where nothing else waits.
pub struct Raw {
    stream: BufReader<TcpStream>,
    refused: bool,
}

/// An answer of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Nil,
    Number(i64),
    Text(Vec<u8>),
    List(Vec<Answer>),
}

impl Answer {
    /// Text, however it is written.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Self::Number(number) => number.to_string(),
            Self::Nil | Self::List(_) => String::new(),
        }
    }
}

impl Raw {
    /// A connection to a private Valkey of this run.
    pub fn to(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream: BufReader::with_capacity(256 * 1024, stream), refused: false })
    }

    /// Whether the last failure was an answer of the server, and not of the connection.
    pub fn was_refused(&self) -> bool {
        self.refused
    }

    /// One question, one answer.
    pub fn ask(&mut self, words: &[&[u8]]) -> Result<Answer> {
        let mut request = Vec::new();
        write_request(&mut request, words);
        self.stream.get_mut().write_all(&request)?;
        self.answer()
    }

    /// Many questions of two words (`GET key`), pipelined; each answer is handed on in turn.
    pub fn pipelined(&mut self, word: &[u8], keys: &[Vec<u8>], mut each: impl FnMut(usize, Answer)) -> Result<()> {
        let mut request = Vec::new();
        for (window, keys) in keys.chunks(WINDOW).enumerate() {
            request.clear();
            keys.iter().for_each(|key| write_request(&mut request, &[word, key]));
            let mut writing = self.stream.get_ref().try_clone()?;
            // Written by another thread: a server whose answers are not read stops reading.
            std::thread::scope(|scope| {
                let written = scope.spawn(|| writing.write_all(&request));
                for index in 0..keys.len() {
                    each(window * WINDOW + index, self.answer()?);
                }
                written.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
                Ok::<(), anyhow::Error>(())
            })?;
        }
        Ok(())
    }

    /// Lines of `INFO section`.
    pub fn info(&mut self, section: &str) -> Result<Vec<(String, String)>> {
        let text = self.ask(&[b"INFO", section.as_bytes()])?.text();
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    fn answer(&mut self) -> Result<Answer> {
        self.refused = false;
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        let line = line.strip_suffix(b"\r\n").context("Valkey hung up")?;
        let (kind, rest) = line.split_first().context("Valkey sent an empty line")?;
        let number = || std::str::from_utf8(rest)?.parse::<i64>().context("Valkey sent no number");
        Ok(match kind {
            b'+' => Answer::Text(rest.to_vec()),
            b':' => Answer::Number(number()?),
            b'-' => {
                self.refused = true;
                bail!("Valkey says {}", String::from_utf8_lossy(rest))
            }
            b'$' | b'*' if rest.starts_with(b"-") => Answer::Nil,
            b'$' => {
                let mut text = vec![0; usize::try_from(number()?)? + 2];
                self.stream.read_exact(&mut text)?;
                text.truncate(text.len() - 2);
                Answer::Text(text)
            }
            b'*' => Answer::List((0..number()?).map(|_| self.answer()).collect::<Result<_>>()?),
            _ => bail!("Valkey sent {}", String::from_utf8_lossy(line)),
        })
    }
}

fn write_request(into: &mut Vec<u8>, words: &[&[u8]]) {
    into.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        into.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        into.extend_from_slice(word);
        into.extend_from_slice(b"\r\n");
    }
}
