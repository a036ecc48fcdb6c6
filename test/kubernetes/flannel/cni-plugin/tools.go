//go:build tools

package plugin

import _ "github.com/containernetworking/plugins/plugins/meta/flannel"
