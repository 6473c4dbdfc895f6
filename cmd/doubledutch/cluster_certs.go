package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/doubledutch-lock/doubledutch/internal/peer"
)

// clusterCertsCmd makes a small certificate authority.
type clusterCertsCmd struct {
	Dir   string   `arg:"" help:"Directory for the files; made if it does not exist."`
	Names []string `arg:"" name:"name" help:"Names of the nodes, as in --name."`
	JSON  bool     `name:"json" help:"Print the names of the files as JSON, for programs."`
}

// Help says where the files belong.
func (*clusterCertsCmd) Help() string {
	return `Makes a certificate authority (ca.pem, ca-key.pem) unless the directory has one, and for each node a certificate and a key
(NAME.pem, NAME-key.pem), anew if they are there. Give each node its two files and ca.pem. Whoever has ca-key.pem can make
nodes: it belongs on none of them. A running node takes up new files by itself.

Example:

    doubledutch cluster certs certs n1 n2 n3
    doubledutch serve --name n1 --cluster-cert certs/n1.pem --cluster-key certs/n1-key.pem --cluster-ca certs/ca.pem ...`
}

// certFiles are the files that one node needs.
type certFiles struct {
	Name string `json:"name"`
	Cert string `json:"cert"`
	Key  string `json:"key"`
	CA   string `json:"ca"`
}

// Run makes the files.
func (k *clusterCertsCmd) Run(c *console) error {
	for _, name := range k.Names {
		if err := checkNodeName(name); err != nil {
			return err
		}
	}
	made, err := k.ensureCA()
	if err != nil {
		return err
	}
	nodes := make([]certFiles, 0, len(k.Names))
	for _, name := range k.Names {
		f, err := peer.MakeNode(k.Dir, name, nil)
		if err != nil {
			return err
		}
		nodes = append(nodes, certFiles{Name: name, Cert: f.Cert, Key: f.Key, CA: f.CA})
	}
	if k.JSON {
		return printJSON(c.out, map[string]any{"nodes": nodes, "ca_key": filepath.Join(k.Dir, peer.CAKeyFile), "new_ca": made})
	}
	return k.print(c, nodes, made)
}

// ensureCA makes the certificate authority if there is none, and tells whether it did.
func (k *clusterCertsCmd) ensureCA() (made bool, err error) {
	_, err = os.Lstat(filepath.Join(k.Dir, peer.CACertFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, peer.MakeCA(k.Dir)
}

func (k *clusterCertsCmd) print(c *console, nodes []certFiles, made bool) error {
	t := newTable(c.out)
	if made {
		t.line("made a certificate authority; keep " + filepath.Join(k.Dir, peer.CAKeyFile) + " away from the nodes")
		t.line("")
	}
	t.row("NODE", "--cluster-cert", "--cluster-key", "--cluster-ca")
	for _, n := range nodes {
		t.row(cell(n.Name), n.Cert, n.Key, n.CA)
	}
	if err := t.done(); err != nil {
		return fmt.Errorf("print the names of the files: %w", err)
	}
	return nil
}
