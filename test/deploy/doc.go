// Package deploy runs what the compose file and the Kubernetes manifests of this repository say: their very commands,
// arguments, environments, configuration files and health checks, as processes on loopback addresses. So these files
// cannot fall behind the program. There is no code here but tests.
//
// What an orchestrator would do is done by the tests: they put files where a volume would be mounted, give each container
// an address, and expand variables. Where the tests may make mount namespaces, names of pods are really resolved, from a
// hosts file that says what the cluster's name server would say. That the files are well-formed is tested in tools/deploy.
package deploy
