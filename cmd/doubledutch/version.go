package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// buildVersion is set by the linker in a release build; otherwise the version comes from the module's build information.
var buildVersion string

// version is the version of this program: never empty, without a leading v.
func version() string {
	if buildVersion != "" {
		return strings.TrimPrefix(buildVersion, "v")
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	return "0.0.0-dev"
}

// versionCmd prints the version.
type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON, for programs."`
}

// Run prints what this program is and what it was built with.
func (v *versionCmd) Run(c *console) error {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	if v.JSON {
		return printJSON(c.out, map[string]string{"version": version(), "go": runtime.Version(), "platform": platform, "revision": revision()})
	}
	_, err := fmt.Fprintf(c.out, "doubledutch %s (%s, %s)\n", version(), runtime.Version(), platform)
	return err
}

// revision is the commit that the program was built from, if the build knows.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
