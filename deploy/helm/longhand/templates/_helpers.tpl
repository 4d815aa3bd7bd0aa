{{- define "longhand.name" -}}
{{- if contains "longhand" .Release.Name }}{{ .Release.Name | trunc 48 | trimSuffix "-" }}{{ else }}{{ printf "%s-longhand" .Release.Name | trunc 48 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{/* Labels of a part: (dict "root" $ "part" "worker") */}}
{{- define "longhand.selector" -}}
app.kubernetes.io/name: longhand
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "longhand.labels" -}}
{{ include "longhand.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "longhand.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* An image by its digest, which cannot be replaced, or else by its tag: (dict "root" $ "part" "worker") */}}
{{- define "longhand.image" -}}
{{- $digest := index .root.Values.image.digests .part -}}
{{ index .root.Values.image .part }}{{ if $digest }}@{{ $digest }}{{ else }}:{{ include "longhand.tag" .root }}{{ end }}
{{- end -}}

{{/* What the program would refuse, refused before anything is installed. */}}
{{- define "longhand.check" -}}
{{- $open := not (and .Values.access.tokensSecret .Values.access.tlsSecret) -}}
{{- if and $open (not .Values.access.insecure) -}}
{{- fail "access: name tokensSecret and tlsSecret, or set access.insecure=true to serve everybody in the cluster in the clear" -}}
{{- end -}}
{{- if and .Values.access.tokensSecret (not .Values.access.workerTokenSecret) -}}
{{- fail "access.tokensSecret needs access.workerTokenSecret: a worker's pod gets no operator's token" -}}
{{- end -}}
{{- if and .Values.access.tlsSecret (not .Values.access.workerTlsSecret) -}}
{{- fail "access.tlsSecret needs access.workerTlsSecret: a worker's pod does not get the coordinator's key" -}}
{{- end -}}
{{- if and .Values.access.mutual (not .Values.access.tlsSecret) -}}
{{- fail "access.mutual needs access.tlsSecret" -}}
{{- end -}}
{{- if and (not .Values.redis.enabled) (not .Values.redis.urlSecret) -}}
{{- fail "redis: set redis.enabled=true, or name redis.urlSecret, a Secret whose key `url` holds redis://… or rediss://…" -}}
{{- end -}}
{{- if and .Values.redis.enabled .Values.redis.urlSecret -}}
{{- fail "redis: both redis.enabled and redis.urlSecret are set; which one holds the documents?" -}}
{{- end -}}
{{- if and .Values.redis.passwordSecret (not .Values.redis.enabled) -}}
{{- fail "redis.passwordSecret is for the Redis of this chart; of one of yours the password stands in the URL of redis.urlSecret" -}}
{{- end -}}
{{- if and .Values.redis.enabled (not .Values.redis.passwordSecret) (not .Values.access.insecure) -}}
{{- fail "redis.passwordSecret: name a Secret whose key `password` holds the password of the chart's Redis (openssl rand -hex 32), or set access.insecure=true" -}}
{{- end -}}
{{- if eq .Values.worker.engine "openai" -}}
{{- if not .Values.worker.baseUrl }}{{ fail "worker.engine=openai needs worker.baseUrl" }}{{ end -}}
{{- else if eq .Values.worker.engine "local" -}}
{{- $sources := without (list .Values.model.existingClaim .Values.model.huggingFace .Values.model.url) "" -}}
{{- if ne (len $sources) 1 -}}
{{- fail "model: name one of model.existingClaim, model.huggingFace and model.url" -}}
{{- end -}}
{{- if and .Values.model.existingClaim (not .Values.model.path) -}}
{{- fail "model.existingClaim needs model.path, the model's place in it" -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.worker.engine "local") (hasPrefix "cuda" .Values.worker.device) (eq (int .Values.worker.gpus) 0) -}}
{{- fail "worker.device=cuda needs worker.gpus=1; for the CPU engine say worker.device=cpu" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.egress -}}
{{- if and (not .Values.redis.enabled) (not .Values.networkPolicy.allowEgressTo.coordinator) -}}
{{- fail "networkPolicy.allowEgressTo.coordinator: say where the Redis of redis.urlSecret is, or set networkPolicy.egress=false" -}}
{{- end -}}
{{- if and (eq .Values.worker.engine "openai") (not .Values.networkPolicy.allowEgressTo.worker) -}}
{{- fail "networkPolicy.allowEgressTo.worker: say where the server of worker.baseUrl is, or set networkPolicy.egress=false" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.keda.enabled (ne .Values.worker.kind "Deployment") -}}
{{- fail "keda.enabled needs worker.kind=Deployment" -}}
{{- end -}}
{{- end -}}

{{- define "longhand.scheme" -}}
{{ if .Values.access.tlsSecret }}https{{ else }}http{{ end }}
{{- end -}}

{{- define "longhand.address" -}}
{{ include "longhand.scheme" . }}://{{ include "longhand.name" . }}-coordinator.{{ .Release.Namespace }}.svc:{{ .Values.coordinator.service.grpcPort }}
{{- end -}}

{{- define "longhand.security" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "longhand.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What every part asks: names, in kube-system or of the node's cache; and the collector of traces, in the cluster. */}}
{{- define "longhand.egress" -}}
- to:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: kube-system}
    - ipBlock: {cidr: 169.254.20.10/32}
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- if .Values.otel.endpoint }}
- to:
    - namespaceSelector: {}
  ports: [{port: 4317}, {port: 4318}]
{{- end }}
{{- end -}}

{{/* Variables that every part has. */}}
{{- define "longhand.env" -}}
- {name: LONGHAND_LOG_FORMAT, value: json}
- {name: RUST_LOG, value: info}
{{- if .root.Values.otel.endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .root.Values.otel.endpoint | quote }}}
- {name: OTEL_SERVICE_NAME, value: longhand-{{ .part }}}
{{- end }}
{{- range $name, $value := .more }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{/* A port that kubelet asks. Certificates are not checked by it, so HTTPS will do, but it can show none of its own. */}}
{{- define "longhand.http-probe" -}}
{{- if .mutual }}tcpSocket: {port: http}{{ else }}httpGet: {path: {{ .path }}, port: http, scheme: {{ .scheme | upper }}}{{ end -}}
{{- end -}}
