//! The log of the shim: the operations of a server on its folder and its responses to clients, in order.

/// One operation. Paths are relative to the watched folder; "" is the folder itself.
#[derive(Debug, Clone)]
pub enum Operation {
    Create {
        path: String,
        inode: u64,
    },
    Write {
        path: String,
        inode: u64,
        offset: usize,
        data: Vec<u8>,
    },
    Truncate {
        inode: u64,
        size: usize,
    },
    Sync {
        path: String,
        inode: u64,
    },
    Rename {
        path: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    MakeFolder {
        path: String,
    },
    RemoveFolder {
        path: String,
    },
    Link {
        path: String,
        to: String,
    },
    /// Bytes of a 2xx response that is about to be sent on a connection.
    Answer {
        connection: u64,
        data: Vec<u8>,
    },
    /// Bytes of a request that was received on a connection.
    Request {
        connection: u64,
        data: Vec<u8>,
    },
}

const MAGIC: u32 = 0x4352_5348;

/// Parses the operations of a log.
pub fn operations(bytes: &[u8]) -> Vec<Operation> {
    let mut reader = Reader { rest: bytes };
    let mut operations = Vec::new();
    while let Some(operation) = reader.next() {
        operations.push(operation);
    }
    operations
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    /// Returns the next record. A truncated last record is ignored, since a SIGKILL can cut it off.
    fn next(&mut self) -> Option<Operation> {
        const HEAD: usize = 40;
        let head = self.rest.get(..HEAD)?;
        let short = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        assert_eq!(short(0), MAGIC, "the log is broken");
        let (kind, inode, offset) = (short(4), long(8), long(16) as usize);
        let (first, second, size) = (short(24) as usize, short(28) as usize, long(32) as usize);
        let whole = self.rest.get(..HEAD + first + second + size)?;
        self.rest = &self.rest[whole.len()..];
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("a path in UTF-8");
        let path = text(&whole[HEAD..HEAD + first]);
        let to = text(&whole[HEAD + first..HEAD + first + second]);
        let data = whole[HEAD + first + second..].to_vec();
        Some(match kind {
            1 => Operation::Create { path, inode },
            2 => Operation::Write { path, inode, offset, data },
            3 => Operation::Truncate { inode, size: offset },
            4 => Operation::Sync { path, inode },
            5 => Operation::Rename { path, to },
            6 => Operation::Unlink { path },
            7 => Operation::MakeFolder { path },
            8 => Operation::RemoveFolder { path },
            9 => Operation::Link { path, to },
            10 => Operation::Answer { connection: inode, data },
            11 => Operation::Request { connection: inode, data },
            kind => panic!("a record of kind {kind}"),
        })
    }
}
