{{/* Names, labels and the few values that several kinds share. */}}

{{- define "clinserve.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "clinserve" .Release.Name -}}
{{- .Release.Name | trunc 47 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-clinserve" .Release.Name | trunc 47 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What tells this release's pods from others. Never changes, so it may stand in pod templates. */}}
{{- define "clinserve.selector" -}}
app.kubernetes.io/name: clinserve
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* For objects, not for Ray's pod templates: the versions would build a second cluster at every upgrade. */}}
{{- define "clinserve.labels" -}}
{{ include "clinserve.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image's reference: {{ include "clinserve.image" (list . .Values.image) }} */}}
{{- define "clinserve.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $image.registry | default $root.Values.image.registry }}{{ . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag }}{{ end -}}
{{- end -}}

{{- define "clinserve.gpuImage" -}}
{{- include "clinserve.image" (list . (empty .Values.gpuImage.repository | ternary .Values.image .Values.gpuImage)) -}}
{{- end -}}

{{/* The Secret with everything that must be kept: somebody's own, or what the chart has made from a vault. */}}
{{- define "clinserve.secretName" -}}
{{- .Values.secrets.existingSecret | default (printf "%s-secrets" (include "clinserve.fullname" .)) -}}
{{- end -}}

{{/* One for each role, so that what one may do, in Kubernetes or in Azure, no other may:
     {{ include "clinserve.serviceAccount" (list . "engine") }} */}}
{{- define "clinserve.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- $name := include "clinserve.fullname" $root -}}
{{- $role := get (dict "gateway" "" "prefetch" "engine" "load-test" "test") (index . 1) -}}
{{- if eq (index . 1) "gateway" -}}{{- $root.Values.serviceAccount.name | default $name -}}
{{- else -}}{{- printf "%s-%s" $name ($role | default (index . 1)) -}}{{- end -}}
{{- end -}}

{{/* Where the API is, inside the cluster: KubeRay's Service, which follows the cluster that is in force. */}}
{{- define "clinserve.service" -}}
{{ include "clinserve.fullname" . }}-serve-svc
{{- end -}}

{{/* Seconds of a duration as the product reads it: 90, "90s", "1.5h". */}}
{{- define "clinserve.seconds" -}}
{{- $text := . | toString -}}
{{- $unit := regexFind "[a-z]+$" ($text | lower) -}}
{{- $number := regexFind "^[0-9.]+" (trim $text) | float64 -}}
{{- $factor := get (dict "" 1.0 "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0) $unit -}}
{{- mulf $number $factor | ceil | int64 -}}
{{- end -}}

{{- define "clinserve.maxStream" -}}
{{- include "clinserve.seconds" (dig "server" "max_stream" "1h" .Values.config) -}}
{{- end -}}

{{/* The least time from "stop" to "killed": endpoints forget the pod, answers end, books are written. */}}
{{- define "clinserve.leastGrace" -}}
{{- $drain := include "clinserve.seconds" (dig "server" "drain_timeout" "10m" .Values.config) -}}
{{- add .Values.preStopSeconds $drain 15 -}}
{{- end -}}

{{- define "clinserve.grace" -}}
{{- .Values.terminationGracePeriodSeconds | default (add (include "clinserve.leastGrace" .) 15) | int64 -}}
{{- end -}}

{{- define "clinserve.imagePullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}
