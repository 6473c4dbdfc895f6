// Package deploy checks what the repository gives to orchestrators against their own types: the compose files against the
// Compose Specification, the manifests of deploy/kubernetes against the Kubernetes API, unknown and misplaced fields
// refused. There is no code here but tests. Whether the program accepts what these files tell it is tested in test/deploy.
package deploy
