//go:build tools

package agent

import _ "github.com/flannel-io/flannel"
