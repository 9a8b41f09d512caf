package checkup

import (
	"golang.org/x/sys/unix"

	"github.com/ipcgen/ipcgen/internal/domain"
)

// enough is the free space in which a registry and the files of some groups fit.
const enough = 16 << 20

// remote has the magic numbers of file systems that other machines serve.
var remote = map[int64]string{
	unix.NFS_SUPER_MAGIC: "NFS", unix.SMB_SUPER_MAGIC: "SMB", unix.SMB2_SUPER_MAGIC: "SMB",
	unix.CIFS_SUPER_MAGIC: "CIFS", unix.AFS_SUPER_MAGIC: "AFS", unix.CODA_SUPER_MAGIC: "Coda",
}

// room looks at the file system of the domain.
func (c *checkup) room(dir *domain.Dir) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir.Path(), &st); err != nil {
		c.failed("file system", "", err)
		return
	}
	const elsewhere = "choose a domain on a tmpfs or a local disk (IPCGEN_DOMAIN)"
	if name := remote[int64(st.Type)]; name != "" {
		c.add(Warn, "file system", elsewhere, "%s is on %s, where locks and watches do not reach "+
			"as far as they must", dir.Path(), name)
	}
	free := st.Bavail * uint64(st.Bsize)
	switch {
	case free < enough:
		c.add(Warn, "file system", "free some of it, or "+elsewhere, "%d KiB are free", free>>10)
	case st.Files > 0 && st.Ffree < 100:
		c.add(Warn, "file system", "remove files, or "+elsewhere, "it has room for %d more files",
			st.Ffree)
	default:
		c.add(OK, "file system", "", "%d MiB are free", free>>20)
	}
}
