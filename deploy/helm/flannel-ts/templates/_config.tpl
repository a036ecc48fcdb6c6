{{- /* net-conf.json as an object. */ -}}
{{- define "flannel-ts.network" -}}
{{- $conf := dict "Backend" .Values.network.backend -}}
{{- with .Values.network.ipv4 }}{{ $_ := set $conf "Network" . }}{{ else }}{{ $_ := set $conf "EnableIPv4" false }}{{ end -}}
{{- with .Values.network.ipv6 }}{{ $_ := set $conf "IPv6Network" . }}{{ $_ := set $conf "EnableIPv6" true }}{{ end -}}
{{- mergeOverwrite $conf (deepCopy .Values.network.extra) | toPrettyJson -}}
{{- end }}

{{- /* The CNI list as an object. */ -}}
{{- define "flannel-ts.list" -}}
{{- $flannel := dict "type" "flannel" "delegate" .Values.cni.delegate "capabilities" (dict "portMappings" true "bandwidth" true) -}}
{{- dict "name" "cbr0" "cniVersion" .Values.cni.version "plugins" (prepend .Values.cni.chained $flannel) | toPrettyJson -}}
{{- end }}

{{- define "flannel-ts.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* Where kubelet asks: an address of the node, which a wildcard is not. */ -}}
{{- define "flannel-ts.probed" -}}
{{- if has .Values.health.address (list "0.0.0.0" "::") }}127.0.0.1{{ else }}{{ .Values.health.address | quote }}{{ end -}}
{{- end }}
