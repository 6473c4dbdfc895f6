// Package fencing shows with real programs that the recipes of docs/fencing.md and the package client/fence keep late writers out:
// PostgreSQL, MariaDB, SQLite, Redis, nginx, and an object store with conditional writes. It is a module of its own, so that their drivers
// are no dependencies of the product. The guide for tables (docs/guides/table.md) is run here, too. There is no code here but tests.
//
// Programs that are not installed skip their tests, but not where CI=true.
package fencing
