{{/* Where files of batches are: in a claim that all gateways mount, or elsewhere. */}}

{{/* The claim's name; empty where there is none. */}}
{{- define "clinserve.filesClaim" -}}
{{- if .Values.files.existingClaim -}}{{ .Values.files.existingClaim }}
{{- else if .Values.files.storageClassName -}}{{ include "clinserve.fullname" . }}-files
{{- end -}}
{{- end -}}

{{- define "clinserve.check.files" }}
{{- $gateways := dig "gateway" "replicas" 1 .Values.config | int }}
{{- $blob := dig "batches" "blob" "" .Values.config | default "" }}
{{- $claim := include "clinserve.filesClaim" . }}
{{- if and $blob $claim }}
files: config.batches.blob and a claim are alternatives; choose one
{{- else if not (or $blob $claim) }}
{{- if gt $gateways 1 }}
files.existingClaim: {{ $gateways }} gateways need one place for files; name a claim that many can write, or files.storageClassName, or config.batches.blob, or set config.gateway.replicas to 1
{{- else if not (or .Values.state.existingClaim .Values.trial.enabled) }}
files.existingClaim: files would be lost with the gateway's pod; name a claim, or files.storageClassName, or config.batches.blob, or state.existingClaim
{{- end }}
{{- end }}
{{- if and $claim (not .Values.config.gateway.resource) }}
config.gateway.resource: the files' claim is in the gateway's pods only, so gateways must run there; leave it 'gateway'
{{- end }}
{{- end -}}
