//! A file of blocks, by direct I/O in pieces: the page cache keeps what others need of it.

use std::io;
use std::path::{Path, PathBuf};

use glommio::GlommioError;
use glommio::io::{Directory, DmaBuffer, DmaFile, OpenOptions};

use super::MODE;
use crate::wire::blocks::{Block, HEAD_BYTES, Head, Id, PAGE_BYTES};

/// Of one operation: larger reads stalled on older kernels.
const PIECE_BYTES: usize = 128 << 10;

/// What went wrong, with the file's name.
pub fn why(path: &Path, error: GlommioError<()>) -> String {
    let error: io::Error = match error {
        GlommioError::IoError(error) | GlommioError::EnhancedIoError { source: error, .. } => error,
        other => return format!("{}: {other}", path.display()),
    };
    format!("{}: {error}", path.display())
}

/// A file that is being written, beside the one that it is to replace.
pub struct Writer {
    file: DmaFile,
    path: PathBuf,
    end: u64,
}

impl Writer {
    pub async fn create(path: PathBuf) -> Result<Writer, String> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(MODE);
        match options.dma_open(&path).await {
            Ok(file) => Ok(Writer { file, path, end: 0 }),
            Err(error) => Err(why(&path, error)),
        }
    }

    /// Appends a block, which begins anew.
    pub async fn append(&mut self, block: &mut Block, id: &Id) -> Result<(), String> {
        let file = &self.file;
        let pieces: Vec<DmaBuffer> = block.finish(id, |bytes| {
            let piece = |bytes: &[u8]| {
                let mut piece = file.alloc_dma_buffer(bytes.len());
                piece.as_bytes_mut()[..bytes.len()].copy_from_slice(bytes);
                piece
            };
            bytes.chunks(PIECE_BYTES).map(piece).collect()
        });
        for piece in pieces {
            let length = piece.len();
            match self.file.write_at(piece, self.end).await {
                Ok(written) if written == length => self.end += length as u64,
                Ok(_) => return Err(format!("{}: the disk is full", self.path.display())),
                Err(error) => return Err(why(&self.path, error)),
            }
        }
        Ok(())
    }

    /// Puts the file in the place of `path`, in the same directory, once it is on the disk. Its bytes.
    pub async fn replace(self, path: &Path) -> Result<u64, String> {
        let told = |error| why(path, error);
        self.file.fdatasync().await.map_err(|error| why(&self.path, error))?;
        self.file.rename(path).await.map_err(told)?;
        self.file.close().await.map_err(told)?;
        let directory = Directory::open(path.parent().unwrap_or(Path::new("/"))).await.map_err(told)?;
        directory.sync().await.map_err(told)?;
        directory.close().await.map_err(told)?;
        Ok(self.end)
    }

    /// Removes what was written.
    pub async fn give_up(self) {
        let _ = self.file.remove().await;
        let _ = self.file.close().await;
    }
}

/// A file that is read.
pub struct Reader {
    file: DmaFile,
    path: PathBuf,
    pub bytes: u64,
}

impl Reader {
    /// None if there is no such file.
    pub async fn open(path: PathBuf) -> Result<Option<Reader>, String> {
        if let Err(error) = std::fs::metadata(&path)
            && error.kind() == io::ErrorKind::NotFound
        {
            return Ok(None);
        }
        let mut options = OpenOptions::new();
        options.read(true);
        let file = options.dma_open(&path).await.map_err(|error| why(&path, error))?;
        let bytes = file.file_size().await.map_err(|error| why(&path, error))?;
        Ok(Some(Reader { file, path, bytes }))
    }

    /// The page at `at`, as far as the file goes.
    pub async fn page(&self, at: u64) -> Result<Vec<u8>, String> {
        self.read(at, PAGE_BYTES as u64).await
    }

    /// A block, with its head.
    pub async fn block(&self, at: u64, head: &Head) -> Result<Vec<u8>, String> {
        self.read(at, HEAD_BYTES as u64 + u64::from(head.records_bytes)).await
    }

    async fn read(&self, at: u64, length: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::with_capacity(length as usize);
        while (bytes.len() as u64) < length {
            let wanted = (length - bytes.len() as u64).min(PIECE_BYTES as u64) as usize;
            let from = at + bytes.len() as u64;
            let piece = self.file.read_at(from, wanted).await.map_err(|error| why(&self.path, error))?;
            if piece.is_empty() {
                break;
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    pub async fn close(self) {
        let _ = self.file.close().await;
    }
}
