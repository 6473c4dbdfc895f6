package fence

// A dialect is how a kind of database says what a fence needs. %s is the table.
type dialect struct {
	schema string
	// raise takes resource and token. It puts the greater one of token and what is there into the row of the resource, and locks
	// the row until the end of the transaction in either case.
	raise string
	// read takes the resource, and returns what raise has left, not what an older snapshot shows.
	read string
	// key is the resource as the database compares it: byte by byte.
	key func(resource string) any
	// args are those of raise.
	args func(key any, token int64) []any
}

func asText(resource string) any  { return resource }
func asBytes(resource string) any { return []byte(resource) }

func once(key any, token int64) []any  { return []any{key, token} }
func twice(key any, token int64) []any { return []any{key, token, token} }

// In PostgreSQL the row is locked even where WHERE refuses the update, and WHERE is asked for what others have committed
// meanwhile. So a token that is there already costs no new version of the row.
var postgres = dialect{
	schema: `CREATE TABLE IF NOT EXISTS %s (resource text COLLATE "C" PRIMARY KEY, token bigint NOT NULL)`,
	raise: `INSERT INTO %s AS f (resource, token) VALUES ($1, $2)
		ON CONFLICT (resource) DO UPDATE SET token = EXCLUDED.token WHERE f.token < EXCLUDED.token`,
	read: `SELECT token FROM %s WHERE resource = $1 FOR UPDATE`,
	key:  asText,
	args: once,
}

// In MySQL and MariaDB text is compared without case or trailing spaces, so names are kept as bytes. A read FOR UPDATE sees the
// newest version, whatever the isolation.
var mysql = dialect{
	schema: `CREATE TABLE IF NOT EXISTS %s (resource VARBINARY(512) PRIMARY KEY, token BIGINT NOT NULL) ENGINE = InnoDB`,
	raise: `INSERT INTO %s (resource, token) VALUES (?, ?)
		ON DUPLICATE KEY UPDATE token = GREATEST(token, ?)`,
	read: `SELECT token FROM %s WHERE resource = ? FOR UPDATE`,
	key:  asBytes,
	args: twice,
}

// In SQLite whoever writes first has the whole database until the end of its transaction.
var sqlite = dialect{
	schema: `CREATE TABLE IF NOT EXISTS %s (resource TEXT PRIMARY KEY, token INTEGER NOT NULL) WITHOUT ROWID`,
	raise: `INSERT INTO %s (resource, token) VALUES (?, ?)
		ON CONFLICT (resource) DO UPDATE SET token = max(token, excluded.token)`,
	read: `SELECT token FROM %s WHERE resource = ?`,
	key:  asText,
	args: once,
}
