{{/* The product's configuration, and what Ray Serve is told of it: as `clinserve serve-config` prints it (tested). */}}

{{/* The configuration file, as data. */}}
{{- define "clinserve.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "deployments" .Values.deployments -}}
{{- if .Values.trial.enabled -}}
{{- $name := include "clinserve.fullname" . -}}
{{- $_ := set $config "database" (dict "url" (printf "postgresql+psycopg://clinserve@%s-trial-postgres:5432/clinserve" $name)) -}}
{{- $_ := set $config "quotas" (set ($config.quotas | default dict) "redis" (printf "redis://%s-trial-redis:6379/0" $name)) -}}
{{- end -}}
{{- if eq (include "clinserve.weightsWritable" .) "true" -}}
{{- $_ := set $config "weights" (set ($config.weights | default dict) "folder" .Values.weights.mountPath) -}}
{{- end -}}
{{- if include "clinserve.filesClaim" . -}}
{{- $_ := set $config "batches" (merge (dict "folder" .Values.files.mountPath "shared" true) ($config.batches | default dict)) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Whether a deployment runs in replicas of its own, beside the gateway's. */}}
{{- define "clinserve.hasReplicas" -}}
{{- if eq .engine.kind "vllm" -}}true
{{- else if eq .engine.kind "echo" -}}
{{- if .engine.place }}{{ if eq .engine.place "replicas" }}true{{ end }}{{ else if or (gt (int (.replicas | default 1)) 1) .scaling }}true{{ end -}}
{{- end -}}
{{- end -}}

{{- define "clinserve.serveConfig" -}}
{{- $config := include "clinserve.config" . | fromYaml -}}
{{- $shared := dict -}}
{{- $reads := dict "server" (list "state_dir" "drain_timeout" "idle_timeout") "secrets" (list "key_vault" "prefix") -}}
{{- $_ := set $reads "weights" (list "folder" "blob_endpoint" "connections") -}}
{{- $_ := set $reads "telemetry" (list "metrics" "traces") -}}
{{- range $section, $names := $reads -}}
{{- $kept := dict -}}
{{- range $names -}}
{{- if hasKey (get $config $section | default dict) . -}}{{- $_ := set $kept . (get (get $config $section) .) -}}{{- end -}}
{{- end -}}
{{- $_ := set $shared $section $kept -}}
{{- end -}}
{{- $known := list -}}
{{- range $config.deployments -}}{{- $known = append $known (ternary (omit . "replicas") . (eq .engine.kind "vllm")) -}}{{- end -}}
{{- $gateway := $config.gateway | default dict -}}
{{- $args := merge (dict "gateway" (omit $gateway "replicas") "deployments" $known) (omit $config "gateway" "deployments") -}}
proxy_location: EveryNode
http_options:
  host: {{ $config.server.host }}
  port: {{ $config.server.port }}
logging_config:
  log_level: WARNING
  enable_access_log: false
applications:
  - name: gateway
    route_prefix: /
    import_path: serving.rayservice:gateway
    args:
      config: {{- toYaml $args | nindent 8 }}
    deployments:
      - name: gateway
        num_replicas: {{ dig "replicas" 1 $gateway }}
{{- range $config.deployments }}
{{- if include "clinserve.hasReplicas" . }}
  {{- $what := omit . "routing" "limits" "hold" "spill_to" "guards" "priority_tier" "price" "replicas" }}
  {{- if eq .engine.kind "echo" }}{{ $_ := set $what "engine" (merge (dict "place" "replicas") .engine) }}{{ end }}
  - name: engine-{{ .name }}
    route_prefix: /_engine/{{ .name }}
    import_path: serving.rayservice:engine
    args:
      config: {{- merge (dict "deployments" (list $what)) $shared | toYaml | nindent 8 }}
    {{- if hasKey . "replicas" }}
    deployments:
      - name: model
        num_replicas: {{ .replicas }}
    {{- end }}
{{- end }}
{{- end }}
{{- end -}}
