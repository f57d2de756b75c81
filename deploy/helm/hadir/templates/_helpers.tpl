{{- define "hadir.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "hadir.selector" -}}
app.kubernetes.io/name: hadir
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "hadir.labels" -}}
{{ include "hadir.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "hadir.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- /* What a container may do: nothing but its own work. */ -}}
{{- define "hadir.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities: { drop: ["ALL"] }
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- /* A variable from a Secret: (dict "name" "DATABASE_URL" "from" .Values.secrets.databaseUrl) */ -}}
{{- define "hadir.secretVariable" -}}
{{- if .from.name }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef: { name: {{ .from.name | quote }}, key: {{ .from.key | quote }} }
{{- end }}
{{- end -}}
